"""Tests of whole flows, of the commands that run them, and of the job through a broker."""
