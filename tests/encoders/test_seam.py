"""An encoder of one's own: the example of docs/extending.md, under the contract of every encoder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from recstream.config import Settings
from recstream.config.sections import EncoderSettings
from recstream.encoders import ENCODERS
from recstream.encoders.base import Encoder
from recstream.encoders.cached import CachedEncoder
from recstream.testing.encoders import EncoderContract
from tests.support.builders import encoder_spec
from tests.support.documents import snippets

CLASS, ROW, SUITE = snippets("extending.md", "An encoder")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example's file is there and its row is in the table."""
    module = ModuleType("recstream.encoders.byte_counts")
    exec(CLASS, module.__dict__)  # noqa: S102 - our own page
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with monkeypatch.context() as patch:
        patch.setitem(ENCODERS, "byte_counts", "")  # taken out again
        exec(ROW, {"ENCODERS": ENCODERS})  # noqa: S102 - our own page
        yield


def suite() -> Any:
    names: dict[str, Any] = {"__name__": __name__}
    exec(SUITE, names)  # noqa: S102 - our own page
    return names["TestByteCounts"]


class TestExample(EncoderContract):
    def make(self) -> Encoder:
        made: Encoder = suite()().make()
        return made


def test_the_example_runs_this_contract() -> None:
    assert issubclass(suite(), EncoderContract)


def test_the_caches_take_it() -> None:
    encoder = CachedEncoder(suite()().make(), None, lru_size=10)
    np.testing.assert_array_equal(encoder.encode(["jazz"]), encoder.encode(["jazz", "war"])[:1])
    assert encoder.stats().lru_hits == 1


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_registered_encoder_can_be_chosen_and_is_there(name: str) -> None:
    from importlib import import_module

    url = {"encoder.url": "http://localhost:1"} if name == "openai" else {}
    assert Settings.load(None, {}, {"encoder.backend": name, **url}).encoder.backend == name
    module, kind = ENCODERS[name].split(":")
    assert callable(getattr(import_module(module), kind))


def test_the_settings_choose_among_the_registered_ones() -> None:
    """The list is taken when the settings are imported, as a row of the file is."""
    from typing import get_args

    allowed = get_args(EncoderSettings.model_fields["backend"].annotation)
    assert set(allowed) == ENCODERS.keys() - {"byte_counts"}
    assert encoder_spec().backend in allowed
