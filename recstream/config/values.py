"""What the sections of the settings are made of: their base, and the values that need parsing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

__all__ = ["Conflict", "Section", "flat_client"]


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
