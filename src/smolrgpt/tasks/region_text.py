"""Regions, numbers and units of length in text; ``mentions`` reads the regions of questions.

A question marks each region with ``<mask>`` (data sets) or ``<region k>`` (people); an answer names them ``[Region k]``. Data sets and
language models spell the same in other ways, which ``REGION`` reads. Legend: k is a region index, counted from 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

#: How answers name region k.
REGION_TAG = "[Region {}]"
#: A region with brackets: "[Region 3]", "<region 3>", "Region [3]".
MARKED_REGION = re.compile(r"\[\s*region\s*(\d{1,6})\s*\]|<\s*region\s*(\d{1,6})\s*>|\bregion\s*\[\s*(\d{1,6})\s*\]", re.IGNORECASE)
#: A region as answers name it: "[Region 3]".
TAG = re.compile(r"\[Region (\d+)\]", re.IGNORECASE)
#: A region as free text has it: the spellings of ``MARKED_REGION``, and "region 3" without brackets.
REGION = re.compile(r"[\[<]?\bregion\s*\[?\s*(\d{1,4})\s*[\]>]?", re.IGNORECASE)

#: Number words in the order of their values, 0 to 19.
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
#: Number word -> its value: 0 to 19, and the tens up to 90.
NUMBER_WORDS = {word: value for value, word in enumerate(_ONES)} | {word: 10 * tens for tens, word in enumerate(_TENS, 2)}
#: A number in words, the tens in the first group: "seven", "twenty-five".
NUMBER_IN_WORDS = re.compile(rf"\b(?:({'|'.join(_TENS)})[- ])?({'|'.join(NUMBER_WORDS)})\b")

#: Unit -> metres, and the spellings (a regular expression) that it has in text. The inch's "in" is mostly a preposition: it needs an end or
#: a dimension behind it. Metres are exact by definition of the units (international yard and pound agreement, 1959).
LENGTH_UNITS: dict[str, tuple[float, str]] = {
    "mm": (0.001, r"mm|milli(?:meter|metre)s?"),
    "cm": (0.01, r"cms?|centi(?:meter|metre)s?"),
    "dm": (0.1, r"dm|deci(?:meter|metre)s?"),
    "km": (1000.0, r"km|kilo(?:meter|metre)s?"),
    "m": (1.0, r"m|(?:meter|metre)s?|mtrs?"),
    "in": (0.0254, r"inch(?:es)?|ins?\b\.?(?=\s*(?:[.,;)]|$|tall|wide|high|long|deep|apart|away|from))|\"|''"),
    "ft": (0.3048, r"ft|foot|feet|'(?!s)"),
    "yd": (0.9144, r"yds?|yards?"),
    "mi": (1609.344, r"miles?"),
}


def number_word(value: int) -> str:
    """Return the word of a number from 0 to 19, and digits of any other."""
    return _ONES[value] if 0 <= value < len(_ONES) else str(value)


def words_to_digits(text: str) -> str:
    """Replace numbers in lower-case words, 0 to 99, by digits: "twenty-five pallets" becomes "25 pallets"."""
    return NUMBER_IN_WORDS.sub(lambda found: str(NUMBER_WORDS.get(found[1], 0) + NUMBER_WORDS[found[2]]), text)


# ---------------------------------------------------------------------------------------------------------------- regions in answers
def region_tag(index: int) -> str:
    """Return how an answer names region ``index``: ``[Region 3]``."""
    return REGION_TAG.format(index)


def region_index(match: re.Match[str]) -> int:
    """Return the region index in a match of ``REGION`` or ``MARKED_REGION``."""
    return int(next(group for group in match.groups() if group is not None))


def find_regions(text: str, pattern: re.Pattern[str] = REGION) -> list[int]:
    """Return the indices of the regions that a text mentions, in order, repeated ones included."""
    return [region_index(match) for match in pattern.finditer(text)]


def replace_regions(text: str, write: Callable[[int], str], pattern: re.Pattern[str] = REGION) -> str:
    """Replace every mention of a region in a text by ``write(index)``."""
    return pattern.sub(lambda match: write(region_index(match)), text)


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDINAL = re.compile(
    rf"\bthe ({'|'.join(_ORDINALS)}|former|latter)\b"
    r"(?: (?:one|object|region|item|mask|pallet|box)\b|(?=\W*$| (?:is|isn't|are|was|has|of)\b))",
    re.IGNORECASE,
)


def name_ordinals(text: str, write: Callable[[int], str] = region_tag) -> str:
    """Write "the second one" as the region of that position, in a text that names no region otherwise."""
    if find_regions(text):
        return text
    indices = {word: index for index, word in enumerate(_ORDINALS)} | {"former": 0, "latter": 1}
    return _ORDINAL.sub(lambda match: write(indices[match[1].lower()]), text)


def renumber(index: str, indices: Sequence[int]) -> str:
    """Return the caller's index of the region that was mentioned at position ``index`` (digits); other text is returned unchanged.

    Args:
        index: the position of a mention, as digits.
        indices: of each mention of the question, in order, the region index that the caller passed.
    """
    return str(indices[int(index)]) if index.isdecimal() and int(index) < len(indices) else index


def renumber_tags(text: str, indices: Sequence[int]) -> str:
    """Replace the k of every ``[Region k]``, a position of mention, by the caller's region index; see ``renumber``."""
    return TAG.sub(lambda match: f"[Region {renumber(match[1], indices)}]", text)
