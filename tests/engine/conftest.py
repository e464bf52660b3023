"""Hypothesis without a deadline: a busy machine is no fault of the code under test."""

from __future__ import annotations

from hypothesis import settings

if settings.get_current_profile_name() == "default":  # a profile asked for on the command line stays
    settings.register_profile("recstream", deadline=None)
    settings.load_profile("recstream")
