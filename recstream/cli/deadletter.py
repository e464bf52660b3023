"""``recstream deadletter``: look at rejected records, and send the mended ones again."""

from __future__ import annotations

import heapq
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from recstream.cli import console as consoles
from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.config import Settings
from recstream.records.dead_letter import DeadLetter, DeadLetterError, dead_letter_from
from recstream.records.reject import REASONS

__all__ = ["app", "list_letters", "replay_letters", "shown"]

EXIT_LEFT = 3
"""Letters were left over."""
_KAFKA = "kafka:"
_NEWEST = 10
_WIDTH = 100
_TOLD = 5
"""Letters left over that are told one by one for each reason."""

app = typer.Typer(help="Rejected records: look at them, mend them, send them again.", no_args_is_help=True)

Explanations = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only letters with this reason; may be repeated."),
]


@app.callback()
def _deadletter() -> None:
    """Rejected records: look at them, mend them, send them again."""


@app.command("list")
def list_letters(
    source: Annotated[
        str | None,
        typer.Argument(help="A .jsonl[.gz|.zst] file, or kafka:TOPIC; by default kafka.dead_letter_topic."),
    ] = None,
    reason: Explanations = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Newest letters shown (10; with --json all).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The letters as JSON lines, to be mended.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Say how many records were rejected and why, and show the newest.

    With --json the letters come as they are, one a line. Mend what is in `raw` (a text, or the record itself
    as an object) with any tool, and give them to `recstream deadletter replay`.
    """
    settings = load_settings(config, overrides)
    where = source or _KAFKA + settings.kafka.dead_letter_topic
    letters = _letters(where, settings, _known(reason))
    if as_json:
        chosen = letters if limit is None else iter(_newest(letters, limit))
        for letter in chosen:
            typer.echo(json.dumps(letter.record))  # ASCII: nothing in a letter reaches the terminal as it is
        return
    counts: Counter[str] = Counter()

    def counted() -> Iterator[DeadLetter]:
        for letter in letters:
            counts[letter.reason] += 1
            yield letter

    newest = _newest(counted(), _NEWEST if limit is None else limit)
    console = consoles.output()
    console.print(f"{counts.total():,} dead letters in {shown(where)}", markup=False)
    for name, count in counts.most_common():
        console.print(f"{count:>9,} {name}", markup=False)
    for letter in newest:
        console.print("\n" + _told(letter), markup=False)


@app.command("replay")
def replay_letters(
    source: Annotated[str, typer.Argument(help="A .jsonl[.gz|.zst] file, kafka:TOPIC, or - (input).")],
    reason: Explanations = None,
    to: Annotated[
        str,
        typer.Option(help="Send to kafka:TOPIC, or write to a new .jsonl file, to be given to backfill."),
    ] = "",
    stream: Annotated[
        str | None,
        typer.Option(
            metavar="events|items",
            help="Send only letters of this stream (by default both; with --to events, or items if --to is "
            "the items topic). Letters from files do not say theirs: they count as events unless you say "
            "items.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Send the records of dead letters again, to the topics they came from (or --to).

    A record that would be rejected again is not sent: it is told on stderr, and its letter, with the new
    reason, goes to stdout to be mended (`... > left.jsonl`); exit code 3. Nothing is taken out of SOURCE.

    An event without an event_id is sent with one made of its letter's source ("dead-letter:events/3:9917"):
    duplicates are recognised by event_id within the newest events.dedup ids of a user, so letters that are
    sent twice count once until their user has sent so many more.
    """
    from recstream.operations.dead_letters import Resend, read_lines

    settings = load_settings(config, overrides)
    kafka = settings.kafka
    if stream not in (None, "events", "items"):
        msg = f"--stream {stream!r}: wanted events or items"
        raise typer.BadParameter(msg)
    ours = [kafka.lists_topic, kafka.dead_letter_topic, *filter(None, [kafka.sessions_topic])]
    if to in {_KAFKA + topic for topic in ours}:
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
    for left in resend.run(read_lines(source, settings)):
        sys.stdout.write((shown(left.text) if sys.stdout.isatty() else left.text) + "\n")
        if resend.left[left.why] <= _TOLD:
            console.print(f"{shown(left.place)}: {left.why}: {shown(left.detail, 400)}", markup=False)
    sys.stdout.flush()
    console.print(_summary(resend), markup=False)
    if resend.left:
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


def _letters(where: str, settings: Settings, reasons: tuple[str, ...]) -> Iterator[DeadLetter]:
    """The letters of a place; what is none is told and left out."""
    from recstream.operations.dead_letters import read_lines

    console = consoles.errors()
    strange = 0
    for line in read_lines(where, settings):
        try:
            letter = dead_letter_from(line.content)
        except DeadLetterError as err:
            strange += 1
            if strange <= _TOLD:
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


def _told(letter: DeadLetter) -> str:
    """A letter in three lines."""
    raw = letter.raw[: 4 * _WIDTH].decode("utf-8", "backslashreplace")
    return (
        f"{letter.reason}  {shown(letter.partition, 200)}:{letter.offset}\n"
        f"    {shown(letter.detail, 400)}\n    {shown(raw, _WIDTH)}"
    )


def _summary(resend: Any) -> str:
    """One line: what became of the letters."""
    verb = "would be sent" if resend.dry_run else "sent"
    parts = [
        f"{count:,} {verb} to {shown(place.removeprefix(_KAFKA), 200)}"
        for place, count in resend.sent.items()
    ]
    special = {
        "cut_short": "cut short",
        "no_letter": "no letters",
        "no_destination": "from elsewhere (choose --to)",
    }
    again = sum(count for why, count in resend.left.items() if why not in special)
    if again:
        parts.append(f"{again:,} would be rejected again")
    parts += [f"{resend.left[why]:,} {told}" for why, told in special.items() if resend.left[why]]
    if resend.other_stream:
        parts.append(f"{resend.other_stream:,} of the other stream left out (--stream)")
    return f"{resend.letters:,} letters: " + (", ".join(parts) or "nothing to send")
