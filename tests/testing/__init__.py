"""Tests of recstream/operations."""
