"""The state of one user, how events change it, and how it is stored and compared."""
