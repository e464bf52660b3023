"""Tests of what recstream reads from and writes to."""
