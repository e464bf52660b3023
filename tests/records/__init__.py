"""Tests of recstream/records."""
