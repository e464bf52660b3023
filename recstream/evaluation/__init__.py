"""Prequential evaluation: how good lists would have been on a log, by the code of the dataflow."""
