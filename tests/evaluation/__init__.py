"""Tests of `recstream.evaluation`."""
