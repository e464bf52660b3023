"""The stores over one LanceDB folder: open it with :class:`LanceDatabase`."""

from recstream.io.lance.database import LanceDatabase
from recstream.io.lance.errors import StoreError, StoreMismatchError
from recstream.io.lance.items import LanceItemStore
from recstream.io.lance.maintenance import Upkeep
from recstream.io.lance.models import LanceModelStore
from recstream.io.lance.statistics import LanceStatisticsStore
from recstream.io.lance.users import LanceUserStore

__all__ = [
    "LanceDatabase",
    "LanceItemStore",
    "LanceModelStore",
    "LanceStatisticsStore",
    "LanceUserStore",
    "StoreError",
    "StoreMismatchError",
    "Upkeep",
]
