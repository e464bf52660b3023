"""Tests of the pure domain code."""
