"""Shipped test kit: fakes, contract suites, strategies."""
