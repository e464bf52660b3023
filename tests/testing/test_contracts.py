"""The contract suites notice an implementation that breaks its contract."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from typing_extensions import override

from recstream.encoders.hashing import HashingEncoder
from recstream.records.arrays import Matrix
from recstream.stores.memory import MemoryUserStore
from recstream.testing.encoders import EncoderContract
from recstream.testing.stores import DIM, UserStoreContract
from recstream.users.codec import UserRow
from tests.support.builders import encoder_spec


class CentringEncoder(HashingEncoder):
    """Takes the mean of the batch from each vector, so that a vector depends on its neighbours."""

    @override
    def encode(self, texts: Sequence[str]) -> Matrix:
        rows = super().encode(texts)
        if len(texts) < 2:
            return rows
        centred = rows - rows.mean(axis=0)
        unit: Matrix = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)
        return unit


class CentringEncoderSuite(EncoderContract):
    @override
    def make(self) -> CentringEncoder:
        return CentringEncoder(encoder_spec(backend="hashing", dim=64))


class LastRowWins(MemoryUserStore):
    """Takes two rows of one user, and keeps the second."""

    @override
    def upsert(self, rows: Sequence[UserRow]) -> None:
        super().upsert(list({row.user_id: row for row in rows}.values()))


class LastRowWinsSuite(UserStoreContract):
    @override
    def make(self) -> LastRowWins:
        return LastRowWins(DIM)


def test_an_encoder_whose_vectors_depend_on_the_batch_is_noticed() -> None:
    suite = CentringEncoderSuite()
    suite.test_rows_are_finite_float32_of_unit_length(suite.make())
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        suite.test_rows_do_not_depend_on_their_neighbours(suite.make())


def test_a_store_that_takes_two_rows_of_one_user_is_noticed() -> None:
    suite = LastRowWinsSuite()
    suite.test_a_row_comes_back_as_it_was()
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        suite.test_a_doubled_id_is_refused_and_nothing_is_written()
