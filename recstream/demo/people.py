"""Whom to watch: users whose ratings say plainly what they like."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from recstream.demo.films import Film, Rating

__all__ = ["LIKED", "Fan", "fans", "followed"]

LIKED: Final = 4.0
"""Stars from which a film counts as liked."""

TELLING: Final = ("Sci-Fi", "Horror", "Children's", "Romance", "War", "Western", "Film-Noir", "Musical")
"""Genres that a reader recognises in a list of titles, the most telling first."""

_NOT_BAD: Final = 3.0
_PARTS: Final = 20
_SPREAD: Final = 8
_FEWEST: Final = 6
_LATEST: Final = 20
_MOST: Final = 80


class Fan(NamedTuple):
    """A user with a taste for one genre."""

    user_id: str
    genre: str
    liked: int
    """Films of the genre that they liked."""
    of: int
    """Films that they liked."""
    lift: float
    """Share of the genre in what they liked, over its share in what everybody liked."""
    late: float
    """Share of the genre in the last films that they did not dislike."""
    spread: int
    """In how many twentieths of the log they rated something."""

    def __str__(self) -> str:
        """Say it to a reader.

        >>> print(Fan("7", "Sci-Fi", 9, 20, 3.0, 0.5, 4))
        user 7 (9 of 20 films they liked are Sci-Fi)
        """
        return f"user {self.user_id} ({self.liked} of {self.of} films they liked are {self.genre})"


def fans(films: Mapping[str, Film], ratings: Sequence[Rating]) -> list[Fan]:
    """One fan of each telling genre, as far as there are any: the strongest taste among the last likes.

    What counts is what they rated last, for that is what their lists at the end follow; and it should
    be one with something left to see.
    """
    counts = Counter(rating.user_id for rating in ratings)
    found: list[Fan] = []
    for genre in TELLING:
        taken = {fan.user_id for fan in found}
        candidates = [fan for fan in _fans_of(genre, films, ratings) if fan.user_id not in taken]
        candidates = [fan for fan in candidates if counts[fan.user_id] <= _MOST] or candidates
        if candidates:
            found.append(max(candidates, key=lambda fan: (fan.late * min(fan.of, 20), fan.user_id)))
    return found


def followed(films: Mapping[str, Film], ratings: Sequence[Rating]) -> str:
    """The user to follow: true to a genre to the last, and rating now and then rather than in one go."""
    for genre in TELLING:
        candidates = _fans_of(genre, films, ratings)
        if candidates:
            return max(candidates, key=lambda fan: (min(fan.spread, _SPREAD) * fan.late, fan.user_id)).user_id
    return Counter(rating.user_id for rating in ratings).most_common(1)[0][0]


def _fans_of(genre: str, films: Mapping[str, Film], ratings: Sequence[Rating]) -> list[Fan]:
    likes: dict[str, list[bool]] = {}
    latest: dict[str, deque[bool]] = {}
    parts: dict[str, set[int]] = {}
    for place, rating in enumerate(ratings):
        user, film = rating.user_id, films.get(rating.item_id)
        is_of = film is not None and genre in film.genres
        parts.setdefault(user, set()).add(place * _PARTS // len(ratings))
        if rating.stars >= LIKED:
            likes.setdefault(user, []).append(is_of)
        if rating.stars >= _NOT_BAD:
            latest.setdefault(user, deque(maxlen=_LATEST)).append(is_of)
    everybody = sum(map(sum, likes.values())) / max(1, sum(map(len, likes.values())))
    found = []
    for user, liked in likes.items():
        late = sum(latest[user]) / len(latest[user])
        if sum(liked) >= _FEWEST and late > 2 * everybody:
            share = sum(liked) / len(liked)
            found.append(Fan(user, genre, sum(liked), len(liked), share / everybody, late, len(parts[user])))
    return found
