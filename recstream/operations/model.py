"""The model of a store, beside the job: looked into, its text transform fitted, its weights reset."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recstream.dataflow.model_state.replay_buffer import LESSONS
from recstream.dataflow.model_state.session_index import SESSIONS, row_of_user, sessions_in, without_user
from recstream.dataflow.model_state.text_transform import TRANSFORM
from recstream.dataflow.model_state.weights import WEIGHTS, mean_of, stored_weights
from recstream.dataflow.worker import Worker
from recstream.items.catalogue import Catalogue
from recstream.items.codec import RowFormatError
from recstream.items.text_transform import TextTransform, plain
from recstream.ranking.model import RankingModel
from recstream.ranking.signals import CEILINGS, SIGNALS
from recstream.runtime.wiring import Wiring
from recstream.stores.base import ModelRow, ModelStore, StoreError

__all__ = ["Fitted", "Removed", "Space", "fit_transform", "forget_sessions", "inspect_model", "reset_model"]

_SAMPLE = 2000
"""Items whose texts are compared to say what a transform does."""


class Space(NamedTuple):
    """What a transform makes of the texts."""

    version: int
    """0: none was fitted, texts are compared as the encoder gives them."""
    items: int
    """Fitted on so many."""
    dims: int
    alike: float
    """How like two items are on average, cosine."""


class Fitted(NamedTuple):
    """What a fit has changed."""

    before: Space
    after: Space


class Removed(NamedTuple):
    """What a reset took away."""

    workers: int
    """Whose weights they were."""
    examples: float | None
    """Lists they were learned from; None: another version of recstream wrote them, or knew other signals."""


def inspect_model(wiring: Wiring) -> dict[str, Any]:
    """What the store holds of the model, as plain JSON; nothing is changed, and no job disturbed."""
    rows = wiring.database.models.fetch()
    model = _blend(wiring)
    start = model.effect
    stored = stored_weights(rows, model)
    repeats = 0.0
    if stored:
        mean = mean_of(list(stored.values()))
        model, repeats = mean.model, mean.repeats
    sessions = [theirs for name, row in rows.items() if name.startswith(SESSIONS) for theirs in _held(row)]
    transform = TextTransform.from_bytes(rows[TRANSFORM].state) if TRANSFORM in rows else None
    return {
        "examples": round(model.examples),
        "workers": len(stored),
        "learns": wiring.settings.ranking.learn,
        "repeats": repeats,
        "signals": [
            {"signal": name, "worth": worth, "start": start[name], "measures": SIGNALS[name]}
            for name, worth in model.effect.items()
        ],
        "transform": None
        if transform is None
        else {"version": transform.version, "items": transform.items, "dims": transform.dims},
        "sessions": sum(sessions),
    }


def fit_transform(wiring: Wiring, whitening: float) -> Fitted:
    """Fit the text transform to the items stored, and store it as a newer one, which a running job takes up.

    Raises:
        StoreError: the store holds no items.
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
    return Fitted(_space(before, catalogue), _space(after, catalogue))


def reset_model(models: ModelStore, wiring: Wiring) -> Removed:
    """Forget what the signals were found to be worth. No job may be running."""
    rows = models.fetch()
    names = [name for name in rows if name.startswith(WEIGHTS)]
    try:
        stored: Mapping[str, Any] = stored_weights(rows, _blend(wiring))
    except RowFormatError:
        stored = {}
    models.delete([*names, LESSONS])
    examples = mean_of(list(stored.values())).model.examples if len(stored) == len(names) > 0 else None
    return Removed(len(names), examples)


def forget_sessions(models: ModelStore, user_id: str, shards: int) -> bool:
    """Erase a user's sessions, and the lessons kept, some of which may be theirs; whether there were any.

    No job may be running.
    """
    models.delete([LESSONS])
    for row in models.fetch([row_of_user(user_id, shards)]).values():
        kept = without_user(row, user_id)
        if kept is not None:
            models.upsert([kept._replace(seq=max(time.time_ns(), row.seq + 1))])
            return True
    return False


def _blend(wiring: Wiring) -> RankingModel:
    weights = wiring.rules().ranking.weights
    return RankingModel({name: weights[name] for name in SIGNALS}, ceilings=CEILINGS)


def _held(row: ModelRow) -> list[int]:
    return [len(theirs) for theirs in sessions_in(row).values()]


def _space(transform: TextTransform, catalogue: Catalogue) -> Space:
    known = [handle for handle in range(len(catalogue)) if catalogue.is_known(handle)]
    rows = transform.unit(np.stack([catalogue.vector(handle) for handle in known[:_SAMPLE]]))
    total = rows.sum(axis=0, dtype=np.float64)
    pairs = len(rows) * (len(rows) - 1)
    alike = float(total @ total - (rows.astype(np.float64) ** 2).sum()) / pairs if pairs else 0.0
    return Space(transform.version, transform.items, transform.dims, alike)
