"""Tests of recstream/items."""
