"""Lengths that a question gives, for models that read them as numbers, and lengths as models write them."""

from __future__ import annotations

import math
import re

from smolrgpt.tasks.region_text import LENGTH_UNITS

#: How a question marks a length that is given to the model as a number.
LENGTH_PLACEHOLDER = "<length>"
_LENGTH = re.compile(
    r"(?<![\w.,])(\d{1,7}(?:[.,]\d{1,6})?)\s?-?\s?(?:"
    + "|".join(f"(?P<{unit}>{spellings})" for unit, (_, spellings) in LENGTH_UNITS.items())
    + r")(?!\w)",
    re.IGNORECASE,
)


def mark_lengths(question: str) -> tuple[str, list[float]]:
    """Replace the lengths of a question that have a unit by ``<length>``; returns the text and the lengths in metres, in order.

    "within 1.5 m" becomes "within <length>". A length of 0 stays text.
    """
    metres: list[float] = []

    def mark(match: re.Match[str]) -> str:
        value = float(match[1].replace(",", ".")) * LENGTH_UNITS[str(match.lastgroup)][0]
        if value <= 0:
            return match[0]
        metres.append(value)
        return LENGTH_PLACEHOLDER

    return _LENGTH.sub(mark, question.replace(LENGTH_PLACEHOLDER, "")), metres


def write_metres(metres: float, digits: int = 3) -> str:
    """Return a length (> 0) in metres with this many significant digits, without an exponent: "0.0823", "2.50", "41.7", "1230"."""
    rounded = float(f"{metres:.{digits - 1}e}")
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(rounded)))}f}"
