"""Signals: what speaks for or against listing an item. A new one is a file here and a row of the table."""
