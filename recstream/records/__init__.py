"""What is read and written: events, items, lists, sessions, rejects, and how each is checked."""
