"""The one error for input that cannot be used, and how messages quote values."""

from __future__ import annotations

from typing import Any


class DataError(ValueError):
    """A file or row that cannot be used; the message says which, what was found and what was expected."""


def brief(value: Any, max_chars: int = 60) -> str:
    """Quote a value for a message: on one line, in at most ``max_chars`` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."
