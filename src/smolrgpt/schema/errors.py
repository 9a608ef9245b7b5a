"""The one error for input that cannot be used, and how messages quote values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class DataError(ValueError):
    """A file or row that cannot be used; the message names it, what was found and what was expected."""


def brief(value: Any, max_chars: int = 60) -> str:
    """Quote a value for a message: on one line, in at most ``max_chars`` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


def suggest_name(name: Any, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """Return what to say about a name that is not known: the nearest known one, else those that are ``listed``, by default all known."""
    names = list(known)
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(names if listed is None else listed))}"


@contextmanager
def naming(source: Any) -> Iterator[None]:
    """Put the name of ``source`` (a file, a region) in front of the message of every DataError that does not hold it yet."""
    try:
        yield
    except DataError as error:
        name = brief(source, 200)
        if name in str(error):
            raise
        raise DataError(f"{name}: {error}") from error
