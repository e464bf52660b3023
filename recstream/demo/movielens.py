"""MovieLens 100K as item records and rating events, read from a package that contains it.

The data's terms forbid passing it on, so it is never part of this repository: it is fetched once.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

__all__ = [
    "CREDIT",
    "FILES",
    "DataError",
    "Film",
    "MovieLens",
    "Rating",
    "find_or_fetch",
    "parse_films",
    "parse_ratings",
    "read_wheel",
]

CREDIT: Final = (
    "MovieLens 100K by GroupLens, University of Minnesota. F. M. Harper and J. A. Konstan: The MovieLens "
    "Datasets: History and Context. ACM TiiS 5, 4 (2015)"
)
"""Citation that the terms of the data ask for."""

FILES: Final = {
    "recbole/dataset_example/ml-100k/ml-100k.item": (
        "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
    ),
    "recbole/dataset_example/ml-100k/ml-100k.inter": (
        "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
    ),
}
"""Files in the wheel (films, ratings) and their SHA-256."""

_PACKAGE: Final = "recbole"
_VERSION: Final = "1.2.1"
_ARTICLES: Final = "The|A|An|La|Le|Les|Il|El|Das|Der|Die|O|L'"
_INVERTED: Final = re.compile(rf"^(.+), ({_ARTICLES})$", re.IGNORECASE)
_FOREIGN: Final = re.compile(r"^(.+?) \((.+)\)$")
_YEAR: Final = re.compile(r"^(.+?) \((\d{4})\)$")
_GENRE_WORDS: Final = {"Sci-Fi": "science fiction", "Film-Noir": "film noir", "unknown": ""}


class DataError(Exception):
    """The films cannot be read or downloaded; the message says why and how to mend it."""


class Film(NamedTuple):
    """One film."""

    item_id: str
    title: str
    year: int | None
    genres: tuple[str, ...]

    @property
    def label(self) -> str:
        """Title and year."""
        return self.title if self.year is None else f"{self.title} ({self.year})"

    def record(self) -> dict[str, object]:
        """The film as an item record.

        >>> Film("50", "Star Wars", 1977, ("Action", "Sci-Fi")).record()["text"]
        'An action and science fiction film from 1977.'
        """
        record: dict[str, object] = {
            "item_id": self.item_id,
            "title": self.title,
            "categories": list(self.genres),
            "text": _sentence(self.genres, self.year),
        }
        return record if self.year is None else {**record, "published_at": f"{self.year}-01-01T00:00:00Z"}


class Rating(NamedTuple):
    """Rating of a film by a user."""

    event_id: str
    """Made from the number of its line, so that it is the same in every run."""
    user_id: str
    item_id: str
    stars: float
    ts: int
    """Unix seconds, 1997 or 1998."""

    def record(self) -> dict[str, object]:
        """The rating as an event record."""
        return {
            "event_id": self.event_id,
            "user_id": self.user_id,
            "ts": self.ts,
            "action": "rate",
            "item_id": self.item_id,
            "rating": self.stars,
        }


@dataclass(frozen=True)
class MovieLens:
    """All films and ratings."""

    films: dict[str, Film]
    ratings: list[Rating]
    """In order of time; ratings of the same second in the order of the file."""


def readable(title: str) -> str:
    """Move the article of a library-style title to the front, also in a translated title in brackets.

    >>> readable("Usual Suspects, The"), readable("Postino, Il"), readable("Enfer, L'")
    ('The Usual Suspects', 'Il Postino', "L'Enfer")
    >>> readable("Horseman on the Roof, The (Hussard sur le toit, Le)")
    'The Horseman on the Roof (Le Hussard sur le toit)'
    >>> readable("Cry, the Beloved Country")
    'Cry, the Beloved Country'
    """
    foreign = _FOREIGN.match(title)
    if foreign:
        return f"{readable(foreign[1])} ({readable(foreign[2])})"
    inverted = _INVERTED.match(title)
    if not inverted:
        return title
    return inverted[2] + ("" if inverted[2].endswith("'") else " ") + inverted[1]


def parse_films(text: str) -> dict[str, Film]:
    r"""Films by id, from a tab-separated file with a header line.

    >>> parse_films("item_id:token\tt\ty\tc\n71\tLion King, The\t1994\tAnimation Children's\n")["71"]
    Film(item_id='71', title='The Lion King', year=1994, genres=('Animation', "Children's"))
    """
    films = {}
    for line in text.splitlines()[1:]:
        item_id, title, year, genres = line.split("\t")
        named = _YEAR.match(title)  # in one line the year is in the title only
        if named and not year.isdigit():
            title, year = named[1], named[2]
        if title == "unkonwn":
            title = "(a film without a title)"
        kinds = tuple(genre for genre in genres.split() if genre != "unknown")
        films[item_id] = Film(item_id, readable(title), int(year) if year.isdigit() else None, kinds)
    return films


def parse_ratings(text: str) -> list[Rating]:
    r"""Ratings in order of time, ties in the order of the file, from a tab-separated file with a header.

    >>> [r.event_id for r in parse_ratings("header\n1\t9\t3\t20\n2\t9\t5\t10\n3\t9\t5\t20\n")]
    ['ml100k-2', 'ml100k-1', 'ml100k-3']
    """
    ratings = []
    for number, line in enumerate(text.splitlines()[1:], start=1):
        user_id, item_id, stars, ts = line.split("\t")
        ratings.append(Rating(f"ml100k-{number}", user_id, item_id, float(stars), int(float(ts))))
    ratings.sort(key=lambda rating: rating.ts)
    return ratings


def read_wheel(path: Path) -> MovieLens:
    """Read films and ratings from a wheel, and check them against the known digests.

    Raises:
        DataError: The wheel is broken or contains other data.
    """
    texts = []
    try:
        with zipfile.ZipFile(path) as wheel:
            for member, wanted in FILES.items():
                content = wheel.read(member)
                got = sha256(content).hexdigest()
                if got != wanted:
                    msg = (
                        f"{path}: {member} has SHA-256 {got}, wanted {wanted}: remove the file and try again"
                    )
                    raise DataError(msg)
                texts.append(content.decode())
    except (OSError, KeyError, zipfile.BadZipFile) as err:
        msg = f"{path}: {err}: remove the file and try again"
        raise DataError(msg) from err
    return MovieLens(parse_films(texts[0]), parse_ratings(texts[1]))


def find_or_fetch(folder: Path, stopped: Callable[[], bool]) -> Path | None:
    """Path of the wheel in this folder, downloaded by pip if needed; None when stopped meanwhile.

    Raises:
        DataError: pip could not download it.
    """
    pattern = f"{_PACKAGE}-{_VERSION}-*.whl"
    found = sorted(folder.glob(pattern))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = f"{_PACKAGE}=={_VERSION}"
        argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "-q"]
        with subprocess.Popen(  # noqa: S603 - the command is ours
            [*argv, "-d", str(folder), wanted], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as pip:
            while pip.poll() is None:
                if stopped():
                    pip.terminate()
                    return None
                time.sleep(0.05)
            output = pip.stdout.read().decode(errors="replace") if pip.stdout else ""
        found = sorted(folder.glob(pattern))
        if pip.returncode or not found:
            tail = " | ".join(output.strip().splitlines()[-3:])
            msg = (
                f"the films (package {wanted}, 2 MB) could not be downloaded: {tail or 'no output of pip'}; "
                f"check the network, or put the wheel into {folder}"
            )
            raise DataError(msg)
    return found[-1]


def _sentence(genres: tuple[str, ...], year: int | None) -> str:
    """Genres and year as a sentence, which encoders handle better than labels."""
    kinds = [kind for kind in (_GENRE_WORDS.get(genre, genre.lower()) for genre in genres) if kind]
    listed = " and ".join(part for part in (", ".join(kinds[:-1]), *kinds[-1:]) if part)
    article = "An" if listed[:1] in tuple("aeio") else "A"
    return f"{article} {listed + ' ' if listed else ''}film{f' from {year}' if year else ''}."
