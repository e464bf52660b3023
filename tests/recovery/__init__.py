"""Tests that kill and restart the job."""
