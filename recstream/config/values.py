"""What the sections of the settings are made of: their base, and the values that need parsing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

__all__ = ["Conflict", "Section", "beside", "flat_client", "local_folder"]

_SCHEME: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
"""What an address begins with; a path has one slash where `pathlib` made it of an address."""


class Conflict(NamedTuple):
    """Fields that do not go together."""

    fields: tuple[str, ...]
    """Dotted from the section (``"url"``), or from the root for conflicts between sections."""
    text: str
    """What is wrong and what is wanted."""


class Section(BaseModel):
    """A frozen group of settings: unknown names, NaN and infinities are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, validate_default=True
    )

    @field_validator("*")
    @classmethod
    def _no_nul(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("wanted text without NUL characters")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        found = list(self.conflicts())
        if found:
            text = "; ".join(c.text for c in found).replace("{", "{{").replace("}", "}}")
            raise PydanticCustomError("conflict", "{text}", {"text": text, "conflicts": found})
        return self

    def conflicts(self) -> Iterator[Conflict]:
        """Fields which are fine each and wrong together."""
        return iter(())


def flat_client(table: Mapping[str, Any]) -> dict[str, Any]:
    """Client settings as librdkafka wants them: nested tables dotted, numbers and booleans as text.

    >>> flat_client({"sasl": {"mechanism": "PLAIN"}, "socket.timeout.ms": 100, "debug": True})
    {'sasl.mechanism': 'PLAIN', 'socket.timeout.ms': '100', 'debug': 'true'}
    """
    flat: dict[str, Any] = {}
    for key, inner in table.items():
        if isinstance(inner, Mapping):
            flat.update({f"{key}.{rest}": leaf for rest, leaf in flat_client(inner).items()})
        elif isinstance(inner, bool):
            flat[str(key)] = "true" if inner else "false"
        else:
            flat[str(key)] = str(inner) if isinstance(inner, int | float) else inner
    return flat


def local_folder(address: str) -> str:
    """Give the path of a folder on a local disk, which may be written as a ``file://`` address.

    Raises:
        ValueError: the address is that of something else, such as object storage.

    >>> local_folder("state"), local_folder("file:///data/my%20store")
    ('state', '/data/my store')
    """
    found = _SCHEME.match(address)
    if found is None:
        return address
    wanted = "wanted a folder on a local disk: its path, or file:///PATH"
    if found[1].lower() != "file":
        raise ValueError(f"{wanted}; {found[1]}:// is not supported, for stores are local folders only")
    rest = address[len(found[1]) + 1 :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in {"", "localhost"}:
            raise ValueError(f"{wanted}; {host!r} is the name of another machine")
        rest = slash + path
    folder = unquote(rest)
    if not folder or "\0" in folder:
        raise ValueError(wanted)
    return folder


def beside(file: Path, folder: str) -> str:
    """Give a folder that a settings file names: a relative one is taken from the file's own folder.

    >>> beside(Path("/etc/recstream.toml"), "state"), beside(Path("/etc/recstream.toml"), "/data/state")
    ('/etc/state', '/data/state')
    """
    if not folder or folder.startswith("~") or _SCHEME.match(folder):
        return folder
    return str(file.absolute().parent / folder)
