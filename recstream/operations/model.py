"""The model in a store: inspected, its text transform fitted, its learned weights reset."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recstream.dataflow.model_state.replay_buffer import REPLAY_BUFFER
from recstream.dataflow.model_state.session_index import SESSIONS, sessions_in
from recstream.dataflow.model_state.text_transform import TRANSFORM
from recstream.dataflow.model_state.weights import WEIGHTS, mean_of, stored_weights
from recstream.dataflow.worker import Worker
from recstream.items.catalogue import Catalogue
from recstream.items.codec import RowFormatError
from recstream.items.text_transform import TextTransform, plain
from recstream.ranking.models.base import RankingModel
from recstream.ranking.models.table import new_model
from recstream.ranking.signals.table import SIGNALS
from recstream.runtime.wiring import Wiring
from recstream.stores.base import ModelRow, ModelStore, StoreError

__all__ = ["FitResult", "ResetResult", "TextSpace", "fit_transform", "inspect_model", "reset_model"]

_SAMPLE = 2000
"""Items whose texts are compared for the mean cosine."""


class TextSpace(NamedTuple):
    """The space in which texts are compared, as a transform makes it."""

    version: int
    """Version of the transform; 0: none, texts are compared as the encoder gives them."""
    items: int
    """Number of items that the transform was fitted to."""
    dims: int
    mean_cosine: float
    """Mean cosine between the texts of two items."""


class FitResult(NamedTuple):
    """The space of texts before and after a fit."""

    before: TextSpace
    after: TextSpace


class ResetResult(NamedTuple):
    """What a reset removed."""

    workers: int
    """Number of workers whose weights were removed."""
    examples: float | None
    """Training examples they were learned from; None: they cannot be read by this version of recstream."""


def inspect_model(wiring: Wiring) -> dict[str, Any]:
    """The model in a store, as plain JSON. Read-only, also beside a running job."""
    rows = wiring.database.models.fetch()
    model = _initial_model(wiring)
    start = model.feature_effects
    stored = stored_weights(rows, model)
    repeats = 0.0
    if stored:
        mean = mean_of(list(stored.values()))
        model, repeats = mean.model, mean.repeats
    sessions = [
        len(chunks)
        for name, row in rows.items()
        if name.startswith(SESSIONS)
        for chunks in sessions_in(row).values()
    ]
    transform = TextTransform.from_bytes(rows[TRANSFORM].state) if TRANSFORM in rows else None
    return {
        "examples": round(model.examples),
        "workers": len(stored),
        "learns": wiring.settings.ranking.learn,
        "repeats": repeats,
        "signals": [
            {"signal": name, "worth": worth, "start": start[name], "measures": SIGNALS[name].meaning}
            for name, worth in model.feature_effects.items()
        ],
        "transform": None
        if transform is None
        else {"version": transform.version, "items": transform.items, "dims": transform.dims},
        "sessions": sum(sessions),
    }


def fit_transform(wiring: Wiring, whitening: float) -> FitResult:
    """Fit the text transform to the stored items and store it as a newer version, which a running job loads.

    Raises:
        StoreError: The store holds no items.
    """
    worker = Worker(wiring.services(), wiring.rules())
    catalogue = worker.replica.catalogue
    if not catalogue.known:
        mend = "load them first: recstream catalogue load ITEMS"
        raise StoreError(str(wiring.settings.store_dir), "holds no items whose texts could be compared", mend)
    models = wiring.database.models
    rows = models.fetch([TRANSFORM])
    before = TextTransform.from_bytes(rows[TRANSFORM].state) if rows else plain(catalogue.dim)
    after = catalogue.fitted(whitening=whitening)
    seq = max([time.time_ns(), *(row.seq + 1 for row in rows.values())])
    models.upsert([ModelRow(TRANSFORM, seq, after.to_bytes())])
    return FitResult(_space(before, catalogue), _space(after, catalogue))


def reset_model(models: ModelStore, wiring: Wiring) -> ResetResult:
    """Delete the learned weights and the replay buffer. No job may be running."""
    rows = models.fetch()
    names = [name for name in rows if name.startswith(WEIGHTS)]
    try:
        stored: Mapping[str, Any] = stored_weights(rows, _initial_model(wiring))
    except RowFormatError:
        stored = {}
    models.delete([*names, REPLAY_BUFFER])
    examples = mean_of(list(stored.values())).model.examples if len(stored) == len(names) > 0 else None
    return ResetResult(len(names), examples)


def _initial_model(wiring: Wiring) -> RankingModel:
    ranking = wiring.rules().ranking
    return new_model(ranking.weights, ranking.model)


def _space(transform: TextTransform, catalogue: Catalogue) -> TextSpace:
    known = [handle for handle in range(len(catalogue)) if catalogue.is_known(handle)]
    rows = transform.unit(np.stack([catalogue.vector(handle) for handle in known[:_SAMPLE]]))
    total = rows.sum(axis=0, dtype=np.float64)
    pairs = len(rows) * (len(rows) - 1)
    mean_cosine = float(total @ total - (rows.astype(np.float64) ** 2).sum()) / pairs if pairs else 0.0
    return TextSpace(transform.version, transform.items, transform.dims, mean_cosine)
