"""What every store of models must do, real or fake. Subclass in ``tests/`` with ``make()``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytest

from recstream.stores.base import ModelRow, ModelStore
from recstream.testing.hostile_texts import HOSTILE_TEXTS

__all__ = ["ModelStoreContract", "model_row"]


def model_row(name: str, seq: int = 1, **fields: Any) -> ModelRow:
    """A model with plausible fields, some replaced."""
    return ModelRow(name, seq, b"\x01m\x00%d" % seq)._replace(**fields)


class ModelStoreContract(ABC):
    """Every :class:`recstream.stores.base.ModelStore` passes these."""

    @abstractmethod
    def make(self) -> ModelStore:
        """A new empty store."""

    def test_rows_come_back_as_they_were_by_name_in_order(self) -> None:
        """Any name, no state included, a large state too."""
        store = self.make()
        assert store.fetch() == {}
        rows = [model_row(name, number) for number, name in enumerate(HOSTILE_TEXTS)]
        rows += [
            model_row("weights/3", 2**62, state=bytes(range(256)) * 4096),
            model_row("transform", 0, state=b""),
        ]
        store.upsert(rows)
        found = store.fetch()
        assert list(found) == sorted(row.name for row in rows)
        assert found == {row.name: row for row in rows}

    def test_some_names_give_those_rows_that_exist(self) -> None:
        """None of them, where none is asked for; each once."""
        store = self.make()
        rows = {name: model_row(name) for name in ("a", "b'", "c")}
        store.upsert(list(rows.values()))
        assert store.fetch([]) == {}
        found = store.fetch(["c", "nothing", "b'", "c", "\ud800"])
        assert list(found.items()) == [("b'", rows["b'"]), ("c", rows["c"])]

    def test_what_changed_since_a_number_comes_in_the_order_of_numbers(self) -> None:
        """Of rows of one number by name; -1 gives all."""
        store = self.make()
        assert store.changed_since(-1) == []
        store.upsert([model_row("a", 3), model_row("b", 1), model_row("d", 2), model_row("c", 2)])
        assert [row.name for row in store.changed_since(-1)] == ["b", "c", "d", "a"]
        assert store.changed_since(2) == [model_row("a", 3)]
        store.upsert([model_row("b", 4)])
        assert store.changed_since(2) == [model_row("a", 3), model_row("b", 4)]
        assert store.changed_since(4) == []

    def test_upsert_replaces_what_is_there_and_adds_what_is_not(self) -> None:
        """The newer row wins whole."""
        store = self.make()
        store.upsert([model_row("a", 1), model_row("b", 1)])
        store.upsert([model_row("b", 2), model_row("c", 2)])
        assert store.fetch() == {"a": model_row("a", 1), "b": model_row("b", 2), "c": model_row("c", 2)}

    def test_delete_removes_those_and_ignores_unknown_names(self) -> None:
        """Others stay; a name may come again."""
        store = self.make()
        store.upsert([model_row("a"), model_row("b'"), model_row("c")])
        store.delete(["b'", "nothing", "a", "\ud800"])
        assert list(store.fetch()) == ["c"]
        store.upsert([model_row("a", 7)])
        assert store.fetch() == {"a": model_row("a", 7), "c": model_row("c")}

    def test_version_differs_after_a_write(self) -> None:
        """And stands still without one."""
        store = self.make()
        seen = [store.version()]
        store.upsert([])
        store.delete([])
        store.fetch()
        assert store.version() == seen[0]
        for seq in (1, 2, None):
            if seq is None:
                store.delete(["a"])
            else:
                store.upsert([model_row("a", seq)])
            assert store.version() not in seen
            seen.append(store.version())

    @pytest.mark.parametrize("second", ["a", "\ud800"])
    def test_a_doubled_or_unfit_name_is_refused_and_nothing_is_written(self, second: str) -> None:
        """All rows or none."""
        store = self.make()
        with pytest.raises(ValueError, match=r"twice|surrogate"):
            store.upsert([model_row("a"), model_row(second, 2)])
        assert store.fetch() == {}

    def test_maintenance_changes_no_answer(self) -> None:
        """Only perhaps the version."""
        store = self.make()
        for seq in range(4):
            store.upsert([model_row("a", seq), model_row(f"b{seq}", seq)])
            store.maintain()
        store.delete(["b0"])
        store.maintain()
        wanted = [model_row("a", 3), *(model_row(f"b{seq}", seq) for seq in range(1, 4))]
        assert list(store.fetch().values()) == wanted
