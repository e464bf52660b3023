"""Tests of `recstream.demo`."""
