"""The settings, and where they come from: a TOML file, the environment, the command line."""

from recstream.config.settings import Settings
from recstream.config.sources import ConfigError

__all__ = ["ConfigError", "Settings"]
