"""Tests of recstream/dataflow."""
