"""``recstream deadletter``: show rejected records, and send mended ones again."""

from __future__ import annotations

import heapq
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.cli.output import stderr_console, stdout_console
from recstream.config import Settings
from recstream.connectors import NAMED, connector_for
from recstream.records.dead_letter import DeadLetter, DeadLetterError, dead_letter_from
from recstream.records.reject import REASONS

if TYPE_CHECKING:
    from recstream.operations.dead_letters import Resend, Why

__all__ = ["command", "list_dead_letters", "printable", "replay_dead_letters"]

EXIT_UNSENT = 3
"""Exit code: some dead letters were not sent."""
_NEWEST = 10
"""Dead letters that `list` shows by default."""
_WIDTH = 100
"""Longest part of a record that is shown, in characters."""
_SHOWN = 5
"""Unsent dead letters that are reported one by one, for each reason."""

command = typer.Typer(help="Show rejected records, and send mended ones again.", no_args_is_help=True)

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only those with this reason; may be repeated."),
]


@command.command("list")
def list_dead_letters(
    source: Annotated[
        str | None,
        typer.Argument(help=f"A .jsonl[.gz|.zst] file, or {NAMED}; by default the live job's."),
    ] = None,
    reason: Reasons = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Newest ones shown (10; with --json all).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines, to be mended.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Count rejected records by reason, and show the newest.

    With --json they come as they are, one a line. Mend what is in `raw` (a text, or the record itself
    as an object) with any tool, and give them to `recstream deadletter replay`.
    """
    settings = load_settings(config, overrides)
    where = source or settings.live.dead_letter
    dead_letters = _dead_letters(where, settings, _known(reason))
    if as_json:
        chosen = dead_letters if limit is None else iter(_newest(dead_letters, limit))
        for letter in chosen:
            typer.echo(json.dumps(letter.record))  # ASCII: nothing in it reaches the terminal as it is
        return
    counts: Counter[str] = Counter()

    def counted() -> Iterator[DeadLetter]:
        for letter in dead_letters:
            counts[letter.reason] += 1
            yield letter

    newest = _newest(counted(), _NEWEST if limit is None else limit)
    console = stdout_console()
    console.print(f"{counts.total():,} dead letters in {printable(where)}", markup=False)
    for name, count in counts.most_common():
        console.print(f"{count:>9,} {name}", markup=False)
    for letter in newest:
        console.print("\n" + _shown(letter), markup=False)


@command.command("replay")
def replay_dead_letters(
    source: Annotated[str, typer.Argument(help=f"A .jsonl[.gz|.zst] file, {NAMED}, or - (input).")],
    reason: Reasons = None,
    to: Annotated[
        str,
        typer.Option(help=f"Send to {NAMED}, or write to a new .jsonl file, to be given to backfill."),
    ] = "",
    stream: Annotated[
        str | None,
        typer.Option(
            metavar="events|items",
            help="Send only those of this stream (by default both; with --to events, or items if --to is "
            "the items topic). Those from files do not say theirs: they count as events by default.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Send the records of dead letters again, to the topics they came from (or --to).

    A record that would be rejected again is not sent: stderr says why, and its dead letter, with the new
    reason, goes to stdout to be mended (`... > left.jsonl`); exit code 3. Nothing is taken out of SOURCE.

    An event without an event_id is sent with one made of its source ("dead-letter:events/3:9917").
    Duplicates are recognised by event_id within the newest events.dedup ids of a user: what is sent twice
    counts once until its user has sent so many more.
    """
    from recstream.operations.dead_letters import Resend, read_lines

    settings = load_settings(config, overrides)
    live = settings.live
    if stream not in (None, "events", "items"):
        msg = f"--stream {stream!r}: wanted events or items"
        raise typer.BadParameter(msg)
    if to and to in (live.lists, live.dead_letter, live.sessions):
        msg = f"--to {to}: this job writes there; wanted a topic that it reads, or a file"
        raise typer.BadParameter(msg)
    resend = Resend(
        settings,
        to=to,
        stream=stream,  # type: ignore[arg-type]  # checked above
        reasons=_known(reason),
        dry_run=dry_run,
    )
    console = stderr_console()
    for unsent in resend.run(read_lines(source, settings)):
        sys.stdout.write((printable(unsent.text) if sys.stdout.isatty() else unsent.text) + "\n")
        if resend.unsent[unsent.why] <= _SHOWN:
            console.print(
                f"{printable(unsent.place)}: {unsent.why}: {printable(unsent.detail, 400)}", markup=False
            )
    sys.stdout.flush()
    console.print(_summary(resend), markup=False)
    if resend.unsent:
        raise typer.Exit(EXIT_UNSENT)


def printable(text: str, most: int | None = None) -> str:
    r"""A text made safe for a terminal: unprintable characters are escaped, and it is cut to ``most``.

    >>> printable("a\x1b[2Jb\u202ec\n"), printable("x" * 99, 4)
    ('a\\x1b[2Jb\\u202ec\\n', 'xxxx...')
    """
    cut = text if most is None or len(text) <= most else text[:most]
    plain = cut if cut.isprintable() else "".join(map(_escaped, cut))
    return plain if len(cut) == len(text) else plain + "..."


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _known(reasons: list[str] | None) -> tuple[str, ...]:
    for reason in reasons or ():
        if reason not in REASONS:
            msg = f"--reason {reason!r}: wanted one of {', '.join(REASONS)}"
            raise typer.BadParameter(msg)
    return tuple(reasons or ())


def _dead_letters(where: str, settings: Settings, reasons: tuple[str, ...]) -> Iterator[DeadLetter]:
    """Dead letters at an address; other records are reported and left out."""
    from recstream.operations.dead_letters import read_lines

    console = stderr_console()
    others = 0
    for line in read_lines(where, settings):
        try:
            letter = dead_letter_from(line.content)
        except DeadLetterError as err:
            others += 1
            if others <= _SHOWN:
                console.print(f"{printable(line.place)}: {printable(str(err), 400)}", markup=False)
            continue
        if not reasons or letter.reason in reasons:
            yield letter
    if others:
        console.print(f"{others:,} records of {printable(where)} are no dead letters and were left out")


def _newest(letters: Iterator[DeadLetter], most: int) -> list[DeadLetter]:
    """The newest, oldest first; of those of one time, the last read."""
    numbers = itertools.count()
    found = heapq.nlargest(most, ((letter.at, next(numbers), letter) for letter in letters))
    return [letter for _, _, letter in reversed(found)]


def _shown(letter: DeadLetter) -> str:
    """A dead letter in three lines: reason and source, detail, record."""
    raw = letter.raw[: 4 * _WIDTH].decode("utf-8", "backslashreplace")
    return (
        f"{letter.reason}  {printable(letter.partition, 200)}:{letter.offset}\n"
        f"    {printable(letter.detail, 400)}\n    {printable(raw, _WIDTH)}"
    )


def _summary(resend: Resend) -> str:
    """How many dead letters were sent where, and how many were not and why, in one line."""
    verb = "would be sent" if resend.dry_run else "sent"
    parts = [
        f"{count:,} {verb} to {printable(_name(address, resend.settings), 200)}"
        for address, count in resend.sent.items()
    ]
    special: dict[Why, str] = {
        "cut_short": "cut short",
        "no_letter": "no dead letters",
        "no_destination": "from elsewhere (choose --to)",
    }
    again = sum(count for why, count in resend.unsent.items() if why not in special)
    if again:
        parts.append(f"{again:,} would be rejected again")
    parts += [f"{resend.unsent[why]:,} {words}" for why, words in special.items() if resend.unsent[why]]
    if resend.other_stream:
        parts.append(f"{resend.other_stream:,} of the other stream left out (--stream)")
    return f"{resend.read:,} dead letters: " + (", ".join(parts) or "nothing to send")


def _name(address: str, settings: Settings) -> str:
    return connector_for(address, settings.options_of).name_of(address)
