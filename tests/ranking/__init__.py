"""Tests of recstream/ranking."""
