"""Bytewax operators and the worker: they decide *when* pure code runs."""
