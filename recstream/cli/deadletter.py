"""``recstream deadletter``: look at rejected records, and send the mended ones again."""

from __future__ import annotations

import heapq
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from recstream.cli import console as consoles
from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.config import Settings
from recstream.connectors import NAMED, connector_for
from recstream.records.dead_letter import DeadLetter, DeadLetterError, dead_letter_from
from recstream.records.reject import REASONS

if TYPE_CHECKING:
    from recstream.operations.dead_letters import Resend, Why

__all__ = ["app", "list_dead_letters", "replay_dead_letters", "shown"]

EXIT_LEFT = 3
"""Dead letters were left over."""
_NEWEST = 10
"""Dead letters that `list` shows."""
_WIDTH = 100
"""Characters of a record that are shown."""
_SHOWN = 5
"""Unsent dead letters that are shown one by one for each reason."""

app = typer.Typer(help="Rejected records: look at them, mend them, send them again.", no_args_is_help=True)

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only those with this reason; may be repeated."),
]


@app.callback()
def _deadletter() -> None:
    """Rejected records: look at them, mend them, send them again."""


@app.command("list")
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
    """Say how many records were rejected and why, and show the newest.

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
    console = consoles.output()
    console.print(f"{counts.total():,} dead letters in {shown(where)}", markup=False)
    for name, count in counts.most_common():
        console.print(f"{count:>9,} {name}", markup=False)
    for letter in newest:
        console.print("\n" + _shown(letter), markup=False)


@app.command("replay")
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
    console = consoles.errors()
    for unsent in resend.run(read_lines(source, settings)):
        sys.stdout.write((shown(unsent.text) if sys.stdout.isatty() else unsent.text) + "\n")
        if resend.unsent[unsent.why] <= _SHOWN:
            console.print(f"{shown(unsent.place)}: {unsent.why}: {shown(unsent.detail, 400)}", markup=False)
    sys.stdout.flush()
    console.print(_summary(resend), markup=False)
    if resend.unsent:
        raise typer.Exit(EXIT_LEFT)


def shown(text: str, most: int | None = None) -> str:
    r"""A text that can do nothing to a terminal: what does not print is escaped, and the end cut off.

    >>> shown("a\x1b[2Jb\u202ec\n"), shown("x" * 99, 4)
    ('a\\x1b[2Jb\\u202ec\\n', 'xxxx...')
    """
    cut = text if most is None or len(text) <= most else text[:most]
    plain = cut if cut.isprintable() else "".join(map(_printable, cut))
    return plain if len(cut) == len(text) else plain + "..."


def _printable(character: str) -> str:
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
    """The dead letters of a place; what is none is reported and left out."""
    from recstream.operations.dead_letters import read_lines

    console = consoles.errors()
    strange = 0
    for line in read_lines(where, settings):
        try:
            letter = dead_letter_from(line.content)
        except DeadLetterError as err:
            strange += 1
            if strange <= _SHOWN:
                console.print(f"{shown(line.place)}: {shown(str(err), 400)}", markup=False)
            continue
        if not reasons or letter.reason in reasons:
            yield letter
    if strange:
        console.print(f"{strange:,} records of {shown(where)} are no dead letters and were left out")


def _newest(letters: Iterator[DeadLetter], most: int) -> list[DeadLetter]:
    """The newest, oldest first; of the same moment those that were read last."""
    numbers = itertools.count()
    found = heapq.nlargest(most, ((letter.at, next(numbers), letter) for letter in letters))
    return [letter for _, _, letter in reversed(found)]


def _shown(letter: DeadLetter) -> str:
    """A dead letter in three lines."""
    raw = letter.raw[: 4 * _WIDTH].decode("utf-8", "backslashreplace")
    return (
        f"{letter.reason}  {shown(letter.partition, 200)}:{letter.offset}\n"
        f"    {shown(letter.detail, 400)}\n    {shown(raw, _WIDTH)}"
    )


def _summary(resend: Resend) -> str:
    """One line: what became of the dead letters."""
    verb = "would be sent" if resend.dry_run else "sent"
    parts = [
        f"{count:,} {verb} to {shown(_name(address, resend.settings), 200)}"
        for address, count in resend.sent.items()
    ]
    special: dict[Why, str] = {
        "cut_short": "cut short",
        "no_letter": "no letters",
        "no_destination": "from elsewhere (choose --to)",
    }
    again = sum(count for why, count in resend.unsent.items() if why not in special)
    if again:
        parts.append(f"{again:,} would be rejected again")
    parts += [f"{resend.unsent[why]:,} {words}" for why, words in special.items() if resend.unsent[why]]
    if resend.other_stream:
        parts.append(f"{resend.other_stream:,} of the other stream left out (--stream)")
    return f"{resend.read:,} letters: " + (", ".join(parts) or "nothing to send")


def _name(address: str, settings: Settings) -> str:
    return connector_for(address, settings.options_of).name_of(address)
