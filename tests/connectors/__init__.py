"""Tests of recstream/connectors."""
