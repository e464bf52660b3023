"""Hypothesis without a deadline: a busy machine is no fault of the code under test."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("recstream", deadline=None)
settings.load_profile("recstream")
