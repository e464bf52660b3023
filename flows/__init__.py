"""Runnable dataflows, each ``python -m bytewax.run flows.NAME``."""
