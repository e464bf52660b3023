"""Tests of recstream/stores."""
