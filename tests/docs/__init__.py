"""Tests of the README and the documentation: what they name exists, and what they show runs."""
