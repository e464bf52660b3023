"""Fans: users whose ratings show a clear taste for one genre."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from recstream.demo.movielens import Film, Rating

__all__ = ["LIKED", "Fan", "fans", "user_to_follow"]

LIKED: Final = 4.0
"""Stars from which a film counts as liked."""

TELLING: Final = ("Sci-Fi", "Horror", "Children's", "Romance", "War", "Western", "Film-Noir", "Musical")
"""Genres that a reader recognises in a list of titles, the most recognisable first."""

_NOT_DISLIKED: Final = 3.0
"""Stars from which a film counts as not disliked."""
_PARTS: Final = 20
"""Parts of equal length that the log is divided into."""
_ENOUGH_PARTS: Final = 8
"""Parts in which a user is active, above which more make no difference."""
_FEWEST_LIKED: Final = 6
"""Liked films of a genre that make a user a fan of it."""
_LATEST: Final = 20
"""A user's last films that their late taste is judged by."""
_MOST_RATED: Final = 80
"""Films rated, above which a fan is shown only if there is no other: little is left to recommend."""


class Fan(NamedTuple):
    """A user with a taste for one genre."""

    user_id: str
    genre: str
    liked: int
    """Films of the genre that they liked."""
    of: int
    """All films that they liked."""
    lift: float
    """Share of the genre in what they liked, divided by its share in what all users liked."""
    late: float
    """Share of the genre in the last films that they did not dislike."""
    spread: int
    """Number of twentieths of the log in which they rated something."""

    def __str__(self) -> str:
        """Describe the fan in one line.

        >>> print(Fan("7", "Sci-Fi", 9, 20, 3.0, 0.5, 4))
        user 7 (9 of 20 films they liked are Sci-Fi)
        """
        return f"user {self.user_id} ({self.liked} of {self.of} films they liked are {self.genre})"


def fans(films: Mapping[str, Film], ratings: Sequence[Rating]) -> list[Fan]:
    """The clearest fan of each telling genre that has any.

    The taste is judged by what they rated last, which their lists at the end depend on most. Fans with films
    left to see are preferred.
    """
    counts = Counter(rating.user_id for rating in ratings)
    found: list[Fan] = []
    for genre in TELLING:
        taken = {fan.user_id for fan in found}
        candidates = [fan for fan in _fans_of(genre, films, ratings) if fan.user_id not in taken]
        candidates = [fan for fan in candidates if counts[fan.user_id] <= _MOST_RATED] or candidates
        if candidates:
            found.append(max(candidates, key=lambda fan: (fan.late * min(fan.of, 20), fan.user_id)))
    return found


def user_to_follow(films: Mapping[str, Film], ratings: Sequence[Rating]) -> str:
    """A fan of the first genre that has any, still faithful to it at the end, active over much of the log."""
    for genre in TELLING:
        candidates = _fans_of(genre, films, ratings)
        if candidates:
            return max(
                candidates, key=lambda fan: (min(fan.spread, _ENOUGH_PARTS) * fan.late, fan.user_id)
            ).user_id
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
        if rating.stars >= _NOT_DISLIKED:
            latest.setdefault(user, deque(maxlen=_LATEST)).append(is_of)
    overall = sum(map(sum, likes.values())) / max(1, sum(map(len, likes.values())))
    found = []
    for user, liked in likes.items():
        late = sum(latest[user]) / len(latest[user])
        if sum(liked) >= _FEWEST_LIKED and late > 2 * overall:
            share = sum(liked) / len(liked)
            found.append(Fan(user, genre, sum(liked), len(liked), share / overall, late, len(parts[user])))
    return found
