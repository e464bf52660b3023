"""Compiled loops (numba) of ranking. They know no tables and no classes but the structs they are handed."""
