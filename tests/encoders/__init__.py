"""Tests of recstream/encoders."""
