"""Statistics rows: nothing of an item's statistics is lost, and nothing of a process is in it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from recstream.items.catalogue import Catalogue
from recstream.items.codec import RowFormatError, StatisticsRow, put_statistics, statistics_row
from recstream.items.statistics import SCALES, Interaction, ItemStatistics, growth
from tests.support.builders import catalogue_of


def neighbours(
    statistics: ItemStatistics, catalogue: Catalogue, handle: int
) -> dict[str, tuple[float, float]]:
    _, others, weights = statistics.row(handle)
    return {catalogue.ids[o]: (f, t) for o, f, t in zip(others.tolist(), *weights.tolist(), strict=True)}


def test_statistics_come_back_in_a_process_with_other_handles() -> None:
    here, there = catalogue_of(["a", "b", "c"]), catalogue_of(["c", "b", "a"])
    source, copy = ItemStatistics(4), ItemStatistics(4)
    source.count([Interaction(0, (1, 2)), Interaction(1, (0,)), Interaction(2, ())])
    for handle in source.take_dirty():
        put_statistics(statistics_row(handle, source, here, shard=0, seq=1), copy, there)

    for item_id in ("a", "b", "c"):
        mine, theirs = here.handle(item_id) or 0, there.handle(item_id) or 0
        assert copy.row(theirs)[0] == pytest.approx(source.row(mine)[0])
        assert neighbours(copy, there, theirs) == neighbours(source, here, mine)


def test_statistics_of_layout_1_are_read_as_what_they_say_today() -> None:
    """It knew three scales, no age of its pairs, and not when an item was met first."""
    catalogue, statistics = catalogue_of(["a", "b", "c"]), ItemStatistics(4)
    weights = np.array([[2.0, 0.0], [3.0, 1.0]], np.float32)
    state = b"\x01" + msgspec.msgpack.encode([["b", "c"], weights.tobytes()])
    row = StatisticsRow("a", 0, 1, 5000.0, (0.5, 2.0, 40.0), state)
    put_statistics(row, statistics, catalogue)
    assert statistics.tick == 5000.0
    scales = [statistics.popularity(1, k)[0] for k in range(len(SCALES))]
    assert (scales[0], scales[1], scales[-1]) == pytest.approx((0.5, 2.0, 40.0))
    assert min(scales[1:3]) >= 2.0  # a slower scale holds no less
    grown = growth(5000.0)
    assert neighbours(statistics, catalogue, 0) == pytest.approx(
        {"b": pytest.approx((2.0 * grown, 3.0 * grown)), "c": pytest.approx((0.0, grown))}
    )
    assert statistics.weights(1)[0] == pytest.approx(40.0 * grown)
    assert 0.0 <= statistics.since(1)[0] <= 5000.0 - 40.0

    again = ItemStatistics(4)
    stored = statistics_row(0, statistics, catalogue, shard=0, seq=2)
    assert stored.state[0] == 2
    put_statistics(stored, again, catalogue)
    assert again.row(0)[0] == pytest.approx(statistics.row(0)[0])


def test_statistics_of_items_nobody_knows_yet_are_kept() -> None:
    here, there = catalogue_of(["a", "b"]), Catalogue(8)
    source, copy = ItemStatistics(4), ItemStatistics(4)
    source.count([Interaction(0, (1,))])
    for handle in source.take_dirty():
        put_statistics(statistics_row(handle, source, here, shard=0, seq=1), copy, there)
    assert (sorted(there.ids), there.known) == (["a", "b"], 0)


@pytest.mark.parametrize(("state", "named"), [(b"", "layout nothing"), (b"\x09abc", "layout 9")])
def test_a_state_of_another_layout_is_refused_with_the_mend(state: bytes, named: str) -> None:
    catalogue, statistics = catalogue_of(["a"]), ItemStatistics(4)
    statistics.count([Interaction(0, ())])
    row = statistics_row(0, statistics, catalogue, shard=0, seq=1)._replace(state=state)
    with pytest.raises(RowFormatError, match=rf"item 'a' has {named}.*recstream backfill"):
        put_statistics(row, statistics, catalogue)
