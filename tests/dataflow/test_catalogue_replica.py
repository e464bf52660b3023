"""The replica: own writes at once, others' by version, nothing written that did not change."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.items.codec import ItemRow
from recstream.items.statistics import Interaction
from recstream.records.transport import shard_of
from recstream.stores.memory import MemoryItemStore, MemoryStatisticsStore
from tests.support.builders import DIM, Clock, item_row, unit
from tests.support.meters import MemoryMeters

SECOND = 10**9


class Two:
    """Stores that several replicas share."""

    def __init__(self) -> None:
        self.items, self.statistics = MemoryItemStore(DIM), MemoryStatisticsStore()
        self.clock, self.meters = Clock(1000.0), MemoryMeters()
        self._numbers = itertools.count(1000 * SECOND)

    def replica(self, *, keys: int = 1, owned: tuple[int, ...] = (0,)) -> CatalogueReplica:
        made = CatalogueReplica(
            self.items,
            self.statistics,
            self.meters,
            dim=DIM,
            neighbours=8,
            keys=keys,
            now=self.clock,
            refresh_s=1.0,
        )
        for key in owned:
            made.own(key)
        return made

    @property
    def seq(self) -> Callable[[], int]:
        return lambda: next(self._numbers)


def flush(replica: CatalogueReplica, seq: Callable[[], int]) -> tuple[int, int]:
    """How many items and statistics were written."""
    return replica.flush_items(seq), replica.flush_statistics(seq)


def test_own_items_are_there_at_once_and_others_after_flush_and_refresh() -> None:
    world = Two()
    one, other = world.replica(), world.replica()
    assert one.put(item_row("a"))
    assert one.catalogue.handle("a") == 0
    other.refresh()
    assert other.catalogue.handle("a") is None
    flush(one, world.seq)
    assert other.catalogue.handle("a") is None
    other.refresh()
    assert other.catalogue.vector(other.catalogue.handle("a") or 0).tolist() == unit("a").tolist()
    assert one.catalogue.version == other.catalogue.version == world.items.version()
    assert (one.arrived, other.arrived) == (["a"], ["a"])


def test_a_replica_that_starts_later_knows_what_is_stored() -> None:
    world = Two()
    first = world.replica()
    first.put(item_row("a"))
    first.statistics.count([Interaction(0, ())])
    flush(first, world.seq)
    later = world.replica()
    assert later.catalogue.ids == ["a"]
    assert later.statistics.popularity(1).tolist() == [1.0]
    assert later.statistics.tick == 1.0


def test_an_unchanged_item_is_not_written_again() -> None:
    world = Two()
    replica = world.replica()
    replica.put(item_row("a"))
    assert not replica.put(item_row("a"))
    flush(replica, world.seq)
    assert not replica.put(item_row("a", seq=99))
    assert flush(replica, world.seq) == (0, 0)
    assert not world.replica().put(item_row("a"))
    assert replica.put(item_row("a", title="Other"))
    assert flush(replica, world.seq) == (1, 0)


def test_without_a_new_version_nothing_is_read() -> None:
    world = Two()
    world.replica().put(item_row("a"))
    replica = world.replica()
    world.items.calls.clear()
    replica.refresh()
    assert world.items.calls == []


def test_a_lazy_refresh_waits_for_its_time() -> None:
    world = Two()
    writer, reader = world.replica(), world.replica()
    writer.put(item_row("a"))
    flush(writer, world.seq)
    reader.refresh(force=False)
    assert reader.catalogue.known == 0
    world.clock.now += 1.0
    reader.refresh(force=False)
    assert reader.catalogue.known == 1


def test_a_tombstone_takes_an_item_off_the_lists_and_a_new_record_brings_it_back() -> None:
    world = Two()
    writer, reader = world.replica(), world.replica()
    steps = [(item_row("a"), True), (item_row("a", deleted=True), False), (item_row("a"), True)]
    for row, there in steps:
        assert writer.put(row)
        flush(writer, world.seq)
        reader.refresh()
        for replica in (writer, reader):
            assert replica.catalogue.available.tolist() == [there]
    assert reader.catalogue.text().any() or reader.catalogue.known == 1


def test_a_tombstone_of_an_item_nobody_knows_is_stored_but_not_known() -> None:
    world = Two()
    replica = world.replica()
    assert replica.put(item_row("a", deleted=True))
    assert (replica.catalogue.known, replica.arrived) == (0, [])
    assert flush(replica, world.seq) == (1, 0)
    assert world.replica().catalogue.known == 0


def test_an_item_seen_with_an_event_is_used_but_not_written() -> None:
    world = Two()
    replica = world.replica()
    replica.put_carried(item_row("a"))
    assert replica.catalogue.handle("a") == 0
    assert flush(replica, world.seq) == (0, 0)


def puts_of(replica: CatalogueReplica, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the items that enter the replica's catalogue from now on."""
    entered: list[str] = []
    put = replica.catalogue.put

    def noted(item_id: str, *known: Any, **more: Any) -> int:
        entered.append(item_id)
        return put(item_id, *known, **more)

    monkeypatch.setattr(replica.catalogue, "put", noted)
    return entered


def test_an_item_that_events_carry_enters_the_catalogue_once_and_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its events come to the user's shard first, then the item to its own."""
    world = Two()
    replica = world.replica()
    entered = puts_of(replica, monkeypatch)
    replica.put_carried(item_row("a"))
    replica.put_carried(item_row("a"))
    assert replica.put(item_row("a"))
    replica.put_carried(item_row("a"))
    assert entered == ["a"]
    assert replica.take_arrived() == ["a"]
    assert flush(replica, world.seq) == (1, 0)
    replica.refresh()
    assert not replica.put(item_row("a"))
    assert entered == ["a"]


def test_an_item_that_events_carry_enters_once_where_another_worker_writes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Two()
    replica, owner = world.replica(), world.replica()
    entered = puts_of(replica, monkeypatch)
    replica.put_carried(item_row("a"))
    owner.put(item_row("a"))
    flush(owner, world.seq)
    replica.refresh()
    assert entered == ["a"]


def test_the_record_of_an_item_replaces_what_an_event_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Two()
    replica = world.replica()
    entered = puts_of(replica, monkeypatch)
    replica.put_carried(item_row("a", title="Event"))
    replica.put_carried(item_row("a", title="Later event"))
    assert replica.put(item_row("a", title="Record"))
    assert (replica.catalogue.titles, entered) == (["Record"], ["a", "a", "a"])


def test_an_item_seen_with_an_event_does_not_override_its_own_record() -> None:
    world = Two()
    replica = world.replica()
    replica.put(item_row("a", title="Record"))
    replica.put_carried(item_row("a", title="Event"))
    flush(replica, world.seq)
    replica.put_carried(item_row("a", title="Event"))
    assert replica.catalogue.titles == ["Record"]


def test_rows_written_with_a_slower_clock_are_not_missed() -> None:
    """Two writers, the second one five seconds behind and committing after the reader's look."""
    world = Two()
    reader = world.replica()
    world.items.upsert([item_row("a", seq=1000 * SECOND)])
    reader.refresh()
    world.items.upsert([item_row("b", seq=995 * SECOND)])
    reader.refresh()
    assert reader.catalogue.known == 2


def test_of_two_versions_the_greater_seq_stays() -> None:
    world = Two()
    reader = world.replica()
    world.items.upsert([item_row("a", seq=1000 * SECOND, title="new")])
    reader.refresh()
    world.items.upsert([item_row("a", seq=999 * SECOND, title="old")])
    reader.refresh()
    assert reader.catalogue.titles == ["new"]


def test_what_is_not_written_yet_is_not_overridden_by_a_refresh() -> None:
    world = Two()
    replica = world.replica()
    world.items.upsert([item_row("a", seq=2000 * SECOND, title="theirs")])
    replica.put(item_row("a", title="ours"))
    replica.refresh()
    assert replica.catalogue.titles == ["ours"]


def test_every_row_written_has_a_greater_seq_than_the_one_before() -> None:
    world = Two()
    replica = world.replica()
    for name in "abc":
        replica.put(item_row(name))
    replica.statistics.count([Interaction(0, (1,))])
    flush(replica, world.seq)
    seqs = [row.seq for row in world.items.rows.values()] + [
        row.seq for row in world.statistics.rows.values()
    ]
    assert seqs == sorted(set(seqs))


def test_statistics_are_read_from_others_and_never_over_ones_own() -> None:
    world = Two()
    keys = 2
    names = [f"i{k}" for k in range(6)]
    one, other = world.replica(keys=keys, owned=(0,)), world.replica(keys=keys, owned=(1,))
    for replica, key in ((one, 0), (other, 1)):
        for name in names:
            replica.put_carried(item_row(name))
        mine = [replica.catalogue.handle(name) or 0 for name in names if shard_of(name, keys) == key]
        replica.statistics.count([Interaction(item, ()) for item in mine] * 2)
        flush(replica, world.seq)
    one.refresh()
    one.statistics.count(
        [Interaction(one.catalogue.handle(n) or 0, ()) for n in names if shard_of(n, keys) == 0]
    )
    theirs = next(name for name in names if shard_of(name, keys) == 1)
    other.statistics.count([Interaction(other.catalogue.handle(theirs) or 0, ())])
    flush(other, world.seq)
    one.refresh()
    got = dict(zip(one.catalogue.ids, one.statistics.popularity(6).tolist(), strict=True))
    got[theirs] -= 1.0
    assert got == {name: 3.0 if shard_of(name, keys) == 0 else 2.0 for name in names}


def test_a_touch_stands_for_as_many_events_as_there_are_keys_an_owner() -> None:
    world = Two()
    assert world.replica(keys=8, owned=(1, 2)).ticks_each == 4.0
    assert world.replica(keys=8, owned=()).ticks_each == 8.0
    assert world.replica().ticks_each == 1.0


def test_sizes_are_metered() -> None:
    world = Two()
    replica = world.replica()
    replica.put(item_row("a", vector=np.ones(DIM, np.float32)))
    flush(replica, world.seq)
    replica.refresh()
    assert world.meters.values["catalogue_items",] == 1
    assert world.meters.values["catalogue_version",] == world.items.version()


def test_a_write_that_was_held_up_is_not_missed_by_others() -> None:
    world = Two()
    slow, quick, reader = world.replica(keys=2), world.replica(keys=2), world.replica(keys=2)
    numbers = iter([1000 * SECOND, 1030 * SECOND, 1031 * SECOND])

    def held_up(rows: list[ItemRow], upsert: Callable[[list[ItemRow]], None] = world.items.upsert) -> None:
        if (
            world.clock.now < 1030.0
        ):  # maintenance has the table; meanwhile another process writes and is read
            world.clock.now = 1030.0
            quick.put(item_row("new"))
            flush(quick, lambda: next(numbers))
            reader.refresh()
        upsert(rows)

    slow.put(item_row("old"))
    slow._in_time(held_up, [item_row("old")], lambda: next(numbers))
    reader.refresh()
    assert reader.catalogue.handle("new") is not None
    assert reader.catalogue.handle("old") is not None


@given(st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["encode", "flush"])), max_size=40))
def test_what_is_encoded_between_events_is_stored_as_it_is_at_the_end(steps: list[int | str]) -> None:
    """Read again, it is as if all of it were encoded at the last barrier."""
    worlds = Two(), Two()
    sliced, whole = (world.replica() for world in worlds)
    for replica in (sliced, whole):
        for item in "abcdef":
            replica.put(item_row(item))
        replica.flush_items(worlds[0].seq)
    for turn, step in enumerate(steps, start=1):
        if step == "encode":
            ticks = itertools.count()
            sliced.encode_statistics(1.0, lambda ticks=ticks: float(next(ticks)))  # type: ignore[misc]
        elif step == "flush":
            sliced.flush_statistics(worlds[0].seq, turn=turn, all_of_it=False)
        else:
            sliced.note_events()
            touched = Interaction(int(step), tuple(item for item in (0, 3) if item != step))
            for replica in (sliced, whole):
                replica.statistics.count([touched], ticks_each=1.0)
    for world, replica in zip(worlds, (sliced, whole), strict=True):
        replica.flush_statistics(world.seq)
        assert not replica.waits
    ours, wanted = (world.replica(owned=()) for world in worlds)
    for read in (ours, wanted):
        read.statistics.reserve(6)
    for handle in range(6):
        mine, theirs = ours.statistics.row(handle), wanted.statistics.row(handle)
        assert mine[0] == pytest.approx(theirs[0], rel=1e-4)
        np.testing.assert_array_equal(mine[1], theirs[1])
        np.testing.assert_allclose(mine[2], theirs[2], rtol=1e-4)


def test_while_events_come_the_barrier_leaves_the_encoding_to_the_time_between_them() -> None:
    world = Two()
    replica = world.replica()
    for item in "abcdef":
        replica.put(item_row(item))
    flush(replica, world.seq)
    replica.note_events()
    replica.statistics.count([Interaction(0, (1, 2))], ticks_each=1.0)
    assert replica.flush_statistics(world.seq, turn=1, all_of_it=False) == 0
    assert replica.flush_statistics(world.seq, turn=2, all_of_it=False) == 3
    replica.note_events()
    replica.statistics.count([Interaction(0, (1, 2))], ticks_each=1.0)
    replica.encode_statistics(1.0, lambda: 0.0)
    assert replica.waits
    assert replica.flush_statistics(world.seq, turn=3, all_of_it=False) == 3
    assert not replica.waits
