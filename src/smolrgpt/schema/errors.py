"""The one error for input that cannot be used, and how messages quote values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class DataError(ValueError):
    """A file or row that cannot be used; the message names it, what was found and what was expected."""


def brief(value: Any, max_chars: int = 60) -> str:
    """Quote a value for a message: on one line, in at most ``max_chars`` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


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
