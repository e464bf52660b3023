"""One user's state, and how events change it."""
