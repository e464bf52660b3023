"""Tests of recstream/users."""
