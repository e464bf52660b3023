"""Tests of whole flows and of the job through a broker."""
