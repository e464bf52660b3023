"""Files as a connector: paths of record files, read as logs and written as JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from recstream.connectors.base import Connector, ReadOptions, RecordWriter
from recstream.connectors.files.formats import FileFault
from recstream.connectors.files.sink import JsonLinesSink
from recstream.connectors.files.source import FileSource
from recstream.records.transport import Message

__all__ = ["FileConnector"]


class FileConnector(Connector):
    """Reads JSON lines, compressed or not, and `.parquet` files, folders of them too; writes JSON lines."""

    scheme: ClassVar[str] = "file"

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._parts: dict[str, frozenset[str]] = {}

    @override
    def name_of(self, address: str) -> str:
        return address

    @override
    def source(self, address: str, options: ReadOptions) -> FileSource:
        return FileSource(
            address,
            batch_size=256,
            limit=options.limit or None,
            stopping=options.stopping,
            positions=[position for position in options.positions if isinstance(position, tuple)],
            key=options.key,
        )

    @override
    def identity_of(self, position: Any) -> str:
        return str(position[0])

    @override
    def owns(self, address: str, partition: str) -> bool:
        return partition in self._names(address)

    @override
    def position_name(self, address: str) -> str:
        """Give the base name, or those of all files: positions stay true when a file is moved."""
        return ",".join(sorted(self._names(address)))

    @override
    def sink(self, address: str) -> JsonLinesSink:
        return JsonLinesSink(address)

    @override
    def writer(self, address: str) -> RecordWriter:
        return _NewFile(Path(address))

    @override
    def place_of(self, address: str, partition: str, offset: int) -> str:
        place = address if len(self._names(address)) == 1 else partition
        return f"{place}, record {offset + 1}"

    def _names(self, address: str) -> frozenset[str]:
        """Names of the partitions at an address."""
        if address not in self._parts:
            self._parts[address] = frozenset(FileSource(address).list_parts())
        return self._parts[address]


class _NewFile(RecordWriter):
    """Writes a file that was not there before, whatever records look like."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise FileFault(
                "would write over a file", str(path), "one that is there", "a new name", "choose another"
            )
        super().__init__(JsonLinesSink(path))

    @override
    def write(self, messages: list[Message]) -> None:
        # JSON breaks lines between its tokens only, where a blank is as good
        super().write(
            [
                one._replace(value=(one.value or b"").replace(b"\n", b" ").replace(b"\r", b" "))
                for one in messages
            ]
        )
