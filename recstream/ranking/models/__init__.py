"""Ranking models: what scores an item of its signals. A new one is a file here and a row of the table."""
