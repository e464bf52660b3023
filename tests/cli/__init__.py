"""Tests of `recstream.cli`."""
