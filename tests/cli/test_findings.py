"""What doctor finds decides its exit code; positions are shown so that each figure can be read."""

from __future__ import annotations

import pytest
import typer

from recstream.cli import doctor
from recstream.cli.positions import _table
from recstream.connectors.base import Finding, PartitionPosition
from recstream.operations import doctor as checks

WELL = Finding("store", True, "can be written")
WARNING = Finding("topic items", True, "is deleted by time", "compact it", is_warning=True)
BAD = Finding("broker", False, "does not answer", "start it")


@pytest.mark.parametrize(
    ("findings", "fails", "last"),
    [
        ([WELL], False, "all is well"),
        ([WELL, WARNING], False, "all is well, but for 1 warning"),
        ([WARNING, WARNING], False, "all is well, but for 2 warnings"),
        ([WELL, WARNING, BAD], True, "1 of 3 checks failed"),
    ],
)
def test_warnings_do_not_fail(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    findings: list[Finding],
    fails: bool,
    last: str,
) -> None:
    """They are shown, with their mends."""
    monkeypatch.setattr(checks, "diagnose", lambda _: findings)
    if fails:
        with pytest.raises(typer.Exit) as caught:
            doctor.command()
        assert caught.value.exit_code == 1
    else:
        doctor.command()
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == last
    for finding in findings:
        assert f"{finding.name}: {finding.detail}" in told
        assert f"mend: {finding.mend}" in told or not finding.mend
    assert told.count("mend: ") == sum(bool(finding.mend) for finding in findings)
    assert told.count("WARN") == sum(finding.is_warning for finding in findings)


def test_what_is_not_known_or_not_there_is_a_dash() -> None:
    empty = PartitionPosition("events/0", 7, 7, 6, 0, 0.0, None)
    gone = PartitionPosition("events/1", 7, None, None, None, None, None, "the topic does not exist")
    columns = [list(column.cells) for column in _table([empty, gone]).columns]
    assert [row[0] for row in columns] == ["events/0", "7", "7", "-", "0", "0 s", "-"]
    assert [row[1] for row in columns] == ["events/1", "7", "-", "-", "-", "-", "-"]
