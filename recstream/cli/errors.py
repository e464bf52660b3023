"""Which exceptions are faults with a mend of their own, and how they are shown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer
from rich.text import Text

from recstream.cli import console as consoles
from recstream.config import ConfigError
from recstream.connectors.files.formats import FileFault
from recstream.connectors.kafka.admin import KafkaFault
from recstream.connectors.kafka.broker import BrokerError
from recstream.connectors.kafka.sink import DeliveryError
from recstream.dataflow.users import BarrierError
from recstream.encoders.base import EncoderError, UnencodableError
from recstream.items.codec import RowFormatError
from recstream.records.reject_limit import RejectLimitError
from recstream.runtime.error_capture import PeerLostError
from recstream.runtime.locks import StoreBusyError
from recstream.runtime.runner import PositionsError
from recstream.runtime.supervisor import EXIT_FUSE, EXIT_SETTINGS, JobError, RefusedError
from recstream.stores.base import StoreError, StoreMismatchError

__all__ = ["FAULTS", "exit_code", "known_fault", "rejects_told", "report"]

FAULTS: tuple[type[Exception], ...] = (
    BarrierError,
    BrokerError,
    ConfigError,
    DeliveryError,
    EncoderError,
    FileFault,
    RejectLimitError,
    JobError,
    KafkaFault,
    PeerLostError,
    PositionsError,
    RowFormatError,
    StoreBusyError,
    StoreError,
    UnencodableError,
)
"""Exceptions whose message says what is wrong, where, and how to mend it: no traceback is needed."""

_KAFKA: Final = "kafka:"


def known_fault(error: BaseException) -> Exception | None:
    """The fault at the root of an error (bytewax wraps what its callbacks raise), or None.

    >>> try:
    ...     raise RuntimeError("error in step") from StoreBusyError("store is in use")
    ... except RuntimeError as err:
    ...     known_fault(err)
    StoreBusyError('store is in use')
    """
    seen: BaseException | None = error
    found: Exception | None = None
    while seen is not None:
        if isinstance(seen, FAULTS):
            found = seen
        seen = seen.__cause__ or seen.__context__
    return found


def exit_code(fault: Exception) -> int:
    """2 when the settings are wrong or do not fit the store, 4 at too many rejects, 1 for any other fault."""
    if isinstance(fault, RejectLimitError):
        return EXIT_FUSE
    return EXIT_SETTINGS if isinstance(fault, (ConfigError, RefusedError, StoreMismatchError)) else 1


def report(fault: Exception) -> None:
    """Print a fault on stderr."""
    console = consoles.errors()
    console.print(Text.assemble(("error: ", "bold red"), str(fault)))


@contextmanager
def rejects_told(places: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Where the fuse ends a command, say where its rejects until then are.

    ``places`` gives a file or ``kafka:TOPIC`` for each kind of them; a file with nothing in it is left out.
    """
    try:
        yield
    except Exception as error:
        fault = known_fault(error)
        if not isinstance(fault, RejectLimitError):
            raise
        report(fault)
        console = consoles.errors()
        for kind, place in places().items():
            if place.startswith(_KAFKA) or (Path(place).exists() and Path(place).stat().st_size):
                quoted = shlex.quote(place)
                console.print(f"{kind} rejected so far: recstream deadletter list {quoted}", markup=False)
        raise typer.Exit(exit_code(fault)) from error
