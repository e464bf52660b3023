"""Compiled loops (numba) of ranking."""
