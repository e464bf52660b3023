"""Faults: exceptions that say how to mend what is wrong, and the exit codes that commands end with."""

from __future__ import annotations

from typing import Final

from recstream.config import ConfigError
from recstream.connectors.base import ConnectorError
from recstream.dataflow.users import BarrierError
from recstream.encoders.base import EncoderError, EncoderSettingsError, UnencodableError
from recstream.items.codec import RowFormatError
from recstream.records.reject_limit import RejectLimitError
from recstream.runtime.locks import StoreBusyError
from recstream.runtime.positions import PositionsError
from recstream.runtime.runner import PeerLostError
from recstream.stores.base import StoreError, StoreMismatchError

__all__ = [
    "EXIT_FAULT",
    "EXIT_REJECT_LIMIT",
    "EXIT_SETTINGS",
    "EXIT_WAITED",
    "FAULTS",
    "JobError",
    "RefusedError",
    "exit_code",
    "known_fault",
    "process_exit_code",
]

EXIT_FAULT: Final = 1
EXIT_SETTINGS: Final = 2
"""The settings are wrong, or do not fit the store: starting again would not help."""
EXIT_REJECT_LIMIT: Final = 4
"""Too many records were rejected: starting again would read the same ones."""
EXIT_WAITED: Final = 75
"""Of a process of the live job, for its supervisor: what it reads or writes stayed away for as long as the
settings allow. Starting again would only wait once more."""


class JobError(Exception):
    """The job could not be kept running, or did not stop in time."""


class RefusedError(JobError):
    """A process refused its settings, or the store that was made with others."""


FAULTS: Final[tuple[type[Exception], ...]] = (
    BarrierError,
    ConfigError,
    ConnectorError,
    EncoderError,
    JobError,
    PeerLostError,
    PositionsError,
    RejectLimitError,
    RowFormatError,
    StoreBusyError,
    StoreError,
    UnencodableError,
)
"""Exceptions whose message says what is wrong, where, and how to mend it: no traceback is needed."""


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
    """Exit code of a process or command that ends with this fault."""
    if isinstance(fault, RejectLimitError):
        return EXIT_REJECT_LIMIT
    if isinstance(fault, (ConfigError, EncoderSettingsError, RefusedError, StoreMismatchError)):
        return EXIT_SETTINGS
    return fault.exit_code if isinstance(fault, ConnectorError) else EXIT_FAULT


def process_exit_code(fault: Exception) -> int:
    """Exit code of a process of the live job, which tells the supervisor whether to start again."""
    return EXIT_WAITED if isinstance(fault, ConnectorError) and fault.was_waited_for else exit_code(fault)
