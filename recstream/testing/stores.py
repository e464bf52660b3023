"""Stores in memory, for tests: those that evaluation works on, too."""

from recstream.memory_stores import MemoryItemStore, MemoryModelStore, MemoryStatisticsStore, MemoryUserStore

__all__ = ["MemoryItemStore", "MemoryModelStore", "MemoryStatisticsStore", "MemoryUserStore"]
