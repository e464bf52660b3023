"""Prequential evaluation: how good lists would have been on any log, by the dataflow's own code."""
