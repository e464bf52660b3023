"""Tests of recstream/config."""
