"""Bytewax operators and logics: they decide *when* core code runs, and nothing else."""
