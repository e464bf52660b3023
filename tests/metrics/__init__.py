"""Tests of recstream/metrics."""
