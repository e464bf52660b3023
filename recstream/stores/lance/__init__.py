"""The stores over one LanceDB folder: open it with :class:`LanceDatabase`."""

from recstream.stores.lance.database import LanceDatabase
from recstream.stores.lance.errors import StoreError, StoreMismatchError
from recstream.stores.lance.items import LanceItemStore
from recstream.stores.lance.maintenance import Upkeep
from recstream.stores.lance.models import LanceModelStore
from recstream.stores.lance.statistics import LanceStatisticsStore
from recstream.stores.lance.users import LanceUserStore

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
