"""Tests of recstream."""
