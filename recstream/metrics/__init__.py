"""Metrics: their names, how they are counted, and the summary of a run."""
