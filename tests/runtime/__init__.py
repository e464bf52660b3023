"""Tests of recstream.runtime."""
