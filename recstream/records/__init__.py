"""Records that are read and written: events, items, lists, sessions and dead letters, with their schemas."""
