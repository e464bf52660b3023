"""Diagnosis of a set-up: settings, topics, encoder, store, cache, disk and port, each with how to mend it.

No check changes anything or raises for a broken set-up, and every check runs whatever the others found.
"""

from __future__ import annotations

import http.client
import math
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from recstream.config import ConfigError, Settings
from recstream.connectors import connector_for, scheme_of
from recstream.connectors.base import ConnectorError, Finding
from recstream.encoders.base import Encoder

__all__ = ["MOST_BEHIND", "Finding", "diagnose"]

MOST_BEHIND = 0.5
"""Share of the records that a partition holds, not read yet, above which they may be gone before they are."""

FREE_MB = 1024
"""Free disk space, in MiB, below which the disk is reported: a store that cannot grow stops the job."""


def diagnose(settings: Settings | Callable[[], Settings], *, timeout_s: float = 5.0) -> list[Finding]:
    """Run every check. ``settings`` may be a function that loads them, so that a ConfigError is a finding.

    Where a setting is wrong, the other checks use its default. ``timeout_s`` limits the wait for each answer.
    """
    problems: list[str] = []
    if not isinstance(settings, Settings):
        try:
            settings = settings()
        except ConfigError as err:
            problems = err.problems
            settings = err.usable if isinstance(err.usable, Settings) else Settings()
    return _run_checks(settings, problems, timeout_s)


def _run_checks(settings: Settings, problems: list[str], timeout_s: float) -> list[Finding]:
    findings = list(_settings(problems))
    findings += _guarded("broker", lambda: _places(settings, timeout_s))
    encoders: list[Encoder] = []
    findings += _guarded("model", lambda: _model(settings, timeout_s, encoders))
    try:
        findings += _guarded("store", lambda: _store(settings, encoders[0] if encoders else None))
    finally:
        for encoder in encoders:
            encoder.close()
    if all(finding.ok for finding in findings if finding.name == "broker"):
        findings += _guarded("positions", lambda: _positions(settings))
    findings += _guarded("cache", lambda: _cache(settings))
    findings += _guarded("disk", lambda: _disk(settings))
    findings += _guarded("metrics port", lambda: _port(settings.run.metrics_port))
    return findings


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as err:  # a fault that no check expects is a finding, too, and the other checks go on
        yield Finding(
            name,
            False,
            f"the check itself failed: {type(err).__name__}: {err}",
            "see the message; if the set-up looks right, report it as a fault of recstream",
        )


def _settings(problems: Sequence[str]) -> Iterator[Finding]:
    for problem in problems:
        what, suggests, meant = problem.partition("; did you mean ")
        mend = (
            f"rename it to {meant.rstrip('?')}"
            if suggests
            else "correct it; `recstream config` explains each"
        )
        yield Finding("settings", False, what, mend)
    if not problems:
        yield Finding("settings", True, "all known and in range")


def _places(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Checks of what the live job reads and writes, by the connectors of these places."""
    from recstream.operations.demands import demands_of

    demands = demands_of(settings)
    by_scheme: dict[str, dict[str, str]] = {}
    for setting, address in settings.live_settings().items():
        by_scheme.setdefault(scheme_of(address), {})[setting] = address
    for places in by_scheme.values():
        connector = connector_for(next(iter(places.values())), settings.options_of)
        yield from connector.diagnose(places, demands, timeout_s=timeout_s)


def _positions(settings: Settings) -> Iterator[Finding]:
    """Whether the job can go on from where it was, and how far behind it is."""
    from recstream.runtime.positions import LIVE, PositionsError, compared_positions, has_positions

    if not has_positions(settings.store_dir, LIVE):
        return
    try:
        found = compared_positions(settings)
    except (ConnectorError, PositionsError) as err:
        yield Finding("positions", False, f"not compared: {err}", "see the message")
        return
    lost = [one for one in found if one.trouble]
    behind = [one for one in found if one.lag_share > MOST_BEHIND and not one.trouble]
    state = f"--state {shlex.quote(str(settings.store_dir))}"
    if lost:
        detail = "; ".join(f"{one.partition}: position {one.position}: {one.trouble}" for one in lost)
        mend = (
            f"`recstream positions {state}` shows them all; with `--to earliest` the job goes on with the "
            "first record held, with `--to latest` without what is there; lengthen the topic's retention.ms"
        )
        yield Finding("positions", False, detail, mend)
    elif behind:
        parts = ", ".join(f"{one.partition} ({one.lag_share:.0%})" for one in behind)
        detail = f"more than half of the records held are not read yet: {parts}"
        mend = (
            f"run the job, with more processes if it does not keep up, or lengthen the topic's retention.ms, "
            f"before records are gone; `recstream positions {state}` says when"
        )
        yield Finding("positions", True, detail, mend, is_warning=True)
    else:
        lag = max((one.lag for one in found if one.lag is not None), default=0)
        yield Finding("positions", True, f"of {len(found)} partitions, at most {lag:,} records behind")


def _model(settings: Settings, timeout_s: float, opened: list[Encoder]) -> Iterator[Finding]:
    from recstream.encoders import open_encoder
    from recstream.encoders.base import EncoderError
    from recstream.runtime.wiring import encoder_spec

    chosen = settings.encoder
    name = f"{chosen.backend}:{chosen.model}"
    try:
        spec = encoder_spec(settings)
        encoder = open_encoder(replace(spec, retries=0, timeout_s=min(timeout_s, spec.timeout_s)))
        encoder.identity  # noqa: B018 - a server is asked for its dimension here
    except EncoderError as err:
        yield Finding(
            "model", False, f"{name}: {_without_mend(err.what, err.got, err.wanted)}", _mend(err.mend)
        )
        return
    opened.append(encoder)
    yield Finding("model", True, f"{encoder.label}, {encoder.dim} numbers a vector")
    try:
        vectors = encoder.encode(["recstream doctor"])
    except (EncoderError, ImportError, OSError, RuntimeError, ValueError) as err:
        mend = getattr(err, "mend", "")
        yield Finding("encode", False, f"{name}: {str(err).partition('; to mend it')[0]}", _mend(mend))
        return
    length = float(np.linalg.norm(vectors)) if vectors.shape == (1, encoder.dim) else math.nan
    if math.isfinite(length) and abs(length - 1.0) < 1e-2:
        yield Finding("encode", True, "a text became a unit vector")
    else:
        detail = f"{name}: one text gave shape {vectors.shape} of length {length}, wanted one unit vector"
        yield Finding("encode", False, detail, "check encoder.model, encoder.dtype and encoder.dim")


def _without_mend(what: str, got: str, wanted: str) -> str:
    return ", ".join([what, *(f"{word} {text}" for word, text in (("got", got), ("wanted", wanted)) if text)])


def _mend(text: str) -> str:
    return text if text else "check the settings of section encoder"


def _store(settings: Settings, encoder: Encoder | None) -> Iterator[Finding]:
    from recstream.runtime.locks import lock_holder
    from recstream.runtime.wiring import SCHEMA, counting, store_meta
    from recstream.stores import store_module
    from recstream.stores.base import StoreError
    from recstream.stores.meta import misfits

    path = settings.store_dir
    try:
        found = store_module(settings.store.backend).inspect_store(path)
    except StoreError as err:
        if path.exists():
            yield from _writable("store", path, "store.path")  # a file in the way is said here
        if path.is_dir() or not path.exists():
            name = "store contents" if path.is_dir() else "store"
            yield Finding(name, False, f"{path}: {err.problem}", err.mend)
        return
    yield from _writable("store", path, "store.path")
    if holder := lock_holder(path):
        detail = f"{path} is in use by {holder}; other commands that change it have to wait for its end"
        yield Finding("store in use", True, detail)
    if found is None:
        yield Finding("store contents", True, f"no store at {path} yet; the first run makes it")
        return
    if encoder is None:
        wanted = found._replace(schema=SCHEMA, shards=settings.store.shards, rules=counting(settings))
    else:
        wanted = store_meta(settings, encoder)
    differing = list(misfits(path, found, wanted))
    for name, problem, mend in differing:
        yield Finding(f"store {name}", False, f"{path} {problem}", mend)
    if not differing:
        checked = "" if encoder is not None else "; whether by the same encoder is unknown: it does not open"
        yield Finding("store contents", True, f"{path} was made with these settings{checked}")


def _cache(settings: Settings) -> Iterator[Finding]:
    folder = settings.cache_dir
    if not settings.cache.enabled:
        yield Finding("cache", True, "off (cache.enabled)")
        return
    if not folder.exists():
        yield from _writable("cache", folder, "cache.path")
        return
    import lmdb

    from recstream.encoders.lmdb_environment import lease

    try:
        held = lease(folder, settings.cache.max_mb)
    except (OSError, lmdb.Error) as err:
        mend = f"delete {folder} (only time is lost), or set cache.path to a folder that can be written"
        yield Finding("cache", False, f"{folder} does not open: {err}", mend)
        return
    try:
        if held.can_write:
            yield Finding("cache", True, f"{folder} opens, {held.fill():.0%} full")
        else:
            mend = "give this user the right to write there, or set cache.path to another folder"
            yield Finding("cache", False, f"{folder} can only be read", mend)
    finally:
        held.release()


def _writable(name: str, path: Path, setting: str) -> Iterator[Finding]:
    """Whether files can be made in a folder, or in its nearest ancestor that exists; leaves no file."""
    nearest = _nearest(path)
    if not nearest.is_dir():
        mend = f"set {setting} to a folder, or move the file away"
        yield Finding(name, False, f"{nearest} is a file, wanted a folder", mend)
        return
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as err:
        mend = f"give this user the right to write there, or set {setting} to another folder"
        yield Finding(name, False, f"{nearest} cannot be written: {err.strerror}", mend)
        return
    there = nearest == path.expanduser().absolute()
    yield Finding(name, True, f"{path} can be {'written' if there else 'made'}")


def _nearest(path: Path) -> Path:
    """The path, or its closest ancestor that exists."""
    path = path.expanduser().absolute()
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def _disk(settings: Settings) -> Iterator[Finding]:
    for folder in dict.fromkeys(_nearest(path) for path in (settings.store_dir, settings.cache_dir)):
        free_mb = shutil.disk_usage(folder).free >> 20
        if free_mb >= FREE_MB:
            yield Finding("disk", True, f"{free_mb:,} MiB free at {folder}")
        else:
            detail = f"{free_mb:,} MiB free at {folder}, wanted at least {FREE_MB:,}"
            yield Finding(
                "disk", False, detail, "free disk space, or set store.path and cache.path elsewhere"
            )


def _port(port: int) -> Iterator[Finding]:
    if port == 0:
        yield Finding("metrics port", True, "off (run.metrics_port)")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as err:
            if _is_recstream(port):
                yield Finding("metrics port", True, f"a running recstream serves its metrics on {port}")
            else:
                mend = "set run.metrics_port to a free port, or to 0 for none"
                yield Finding("metrics port", False, f"{port} cannot be used: {err.strerror}", mend)
            return
    yield Finding("metrics port", True, f"{port} is free")


def _is_recstream(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/metrics")
        return b"recstream_process_start" in connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
