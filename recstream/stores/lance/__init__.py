"""The stores over one LanceDB folder: open it with :class:`LanceDatabase`."""

from recstream.stores.lance.database import LanceDatabase
from recstream.stores.lance.maintenance import Upkeep

__all__ = ["LanceDatabase", "Upkeep"]
