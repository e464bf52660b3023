"""A connector of one's own: the example of docs/extending.md, under the contract and in a real replay."""

from __future__ import annotations

import itertools
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import orjson
import pytest

from recstream.config import Settings
from recstream.connectors import CONNECTORS, connector_for, scheme_of
from recstream.connectors.base import Connector, ConnectorError
from recstream.runtime.replay import replay
from recstream.runtime.signals import Stop
from recstream.testing.connectors import SinkContract, SourceContract
from tests.support.documents import snippets
from tests.support.logs import events, item, versions_after
from tests.support.stored_users import assert_same_users, stored_users

FILE, ROW = snippets("extending.md", "A source and a sink")
MODULE = "recstream.connectors.redis_lists"
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bytes]]:
    """The example's file is there and its row is in the table; gives the lists."""
    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    exec(FILE, module.__dict__)  # noqa: S102 - our own page
    monkeypatch.setitem(CONNECTORS, "list", "")  # taken out again
    exec(ROW, {"CONNECTORS": CONNECTORS})  # noqa: S102 - our own page
    lists: dict[str, list[bytes]] = module.SERVER
    return lists


class Lists:
    lists: dict[str, list[bytes]]

    @pytest.fixture(autouse=True)
    def on_a_server(self, server: dict[str, list[bytes]]) -> None:
        self.lists = server

    def connector(self) -> Connector:
        return connector_for("list:any", lambda _: {})


class TestListSource(Lists, SourceContract):
    def place(self, records: list[bytes]) -> str:
        name = f"log-{next(_numbers)}"
        self.lists[name] = list(records)
        return f"list:{name}"

    def replace(self, address: str, records: list[bytes]) -> None:
        old = self.lists.pop(address.removeprefix("list:"))
        self.lists[address.removeprefix("list:")] = list(records)
        old.clear()

    def missing(self) -> str:
        return "list:none"


class TestListSink(Lists, SinkContract):
    def new_place(self) -> str:
        return f"list:out-{next(_numbers)}"

    def contents(self, address: str) -> list[bytes]:
        return self.lists.get(address.removeprefix("list:"), [])

    def unwritable(self) -> str:
        return "list:"


def test_the_real_graph_reads_and_writes_it_and_goes_on_after_a_stop(
    server: dict[str, list[bytes]], tmp_path: Path
) -> None:
    """Users are those of a replay that was not interrupted, and each has the list of their last event."""
    items, log = [item(number) for number in range(30)], events(600, users=10, items=30)
    server["items"] = [orjson.dumps(one) for one in items]
    server["events"] = [orjson.dumps(one) for one in log]
    places = {
        "backfill.items": "list:items",
        "backfill.events": "list:events",
        "backfill.dead_letter": "list:rejects",
        "encoder.backend": "hashing",
    }
    replay(_settings(tmp_path / "whole", places), Stop(), _no_stage)

    settings = _settings(tmp_path / "stopped", {**places, "backfill.out": "list:out"})
    stop = _StopAfter(2)
    done = replay(settings, stop, stop.on_stage)
    assert done.interrupted
    before = done.account.read
    assert 0 < before < len(log)
    done = replay(settings, Stop(), _no_stage)
    assert done.account.balanced
    assert done.account.read == len(log) - before
    assert_same_users(stored_users(tmp_path / "stopped"), stored_users(tmp_path / "whole"))

    newest = {record["user_id"]: record["version"] for record in map(orjson.loads, server["out"])}
    assert newest == versions_after(log)
    assert not server.get("rejects")


class _StopAfter(Stop):
    """Asks for a stop once the source of events was asked for so many batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches
        self._counts = False

    def on_stage(self, name: str, share: object) -> None:
        self._counts = name == "events"

    def asked(self) -> bool:
        if self._counts:
            self._left -= 1
            if self._left < 0:
                self.ask()
        return super().asked()


def _settings(store: Path, overrides: dict[str, str]) -> Settings:
    return Settings.load(None, {}, {**overrides, "store.path": str(store)})


def _no_stage(name: str, share: object) -> None:
    """Show nothing."""


@pytest.mark.parametrize("scheme", sorted(CONNECTORS))
def test_every_registered_connector_is_there_under_its_scheme(scheme: str) -> None:
    module, name = CONNECTORS[scheme].split(":")
    assert getattr(import_module(module), name).scheme == scheme
    assert scheme_of(f"{scheme}:x") == scheme


def test_what_can_only_be_read_says_so() -> None:
    class ReadOnly(type(connector_for("list:any", lambda _: {}))):  # type: ignore[misc]  # made from a page
        sink = Connector.sink

    with pytest.raises(ConnectorError, match="list can only be read; name another place to write to"):
        ReadOnly({}).sink("list:out")
