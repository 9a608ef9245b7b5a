"""How far apart: metres between the middles of two objects, 0 where one contains or touches the other."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from smolrgpt.tasks.base import Cue, NormalizedAnswer, Rank, ReplySchema, Task, best_constant
from smolrgpt.tasks.region_text import LENGTH_UNITS

#: An official distance is right between these multiples of the truth, both ends included; a truth of 0 needs exactly 0.
OFFICIAL_TOLERANCE = (0.90, 1.10)
#: The official relative error divides by g + this, so it is meaningless on rows whose truth is 0.
ERROR_EPSILON = 1e-8

#: Words of a statement of contact or containment, where the distance is 0.
_CONTACT = re.compile(r"\b(?:within|inside|touch\w*|overlap\w*|in contact|contains?)\b", re.IGNORECASE)
_NUMBER = r"(?<![\d.\-])(\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\d)"
_UNITS = {"m": "m|meter|metre", "cm": "cm|centimeter|centimetre", "ft": "foot|feet"}
_LENGTH = re.compile(rf"{_NUMBER}\s*(?:{'|'.join(f'(?P<{unit}>{spellings})' for unit, spellings in _UNITS.items())})s?\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False, kw_only=True)
class LengthTask(Task):
    """A question whose answer is a length in metres.

    Attributes:
        tolerance: the multiples of the truth between which an answer is right, both ends included.
        length_word: what an answer writes between the regions and the number when a model is taught in steps; "" for nothing.
    """

    tolerance: tuple[float, float] = OFFICIAL_TOLERANCE
    length_word: str = ""
    guess: NormalizedAnswer = 0.0
    is_length: bool = field(default=True, init=False)

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of metres below 1,000 with at most two decimals."""
        return r" ?(?:0|[1-9][0-9]{0,2})(?:\.[0-9]{1,2})?"

    def _read_short(self, text: str) -> NormalizedAnswer:
        return _metres(float(text)) if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", text) else None

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the last number with a unit of length, else 0 when the last statement is one of contact."""
        if stated := list(_LENGTH.finditer(" ".join(sentences))):
            number, unit = stated[-1][1], str(stated[-1].lastgroup)
            return _metres(float(number) * LENGTH_UNITS[unit][0])
        return 0 if _CONTACT.search(sentences[-1]) else None

    def parse(self, value: Any) -> float:
        """Return metres. Raises ValueError for what is no finite number."""
        return parse_number(value)

    def is_correct(self, truth: float, prediction: float) -> bool:
        """Return whether a prediction is within the tolerance of the truth."""
        return self.tolerance[0] * truth <= prediction <= self.tolerance[1] * truth

    def relative_error(self, truth: float, prediction: float) -> float:
        """Return |p - g| / (g + 1e-8), the official definition."""
        return abs(prediction - truth) / (truth + ERROR_EPSILON)

    def problem(self, value: Any, num_regions: int) -> str | None:
        """Return what is expected in place of ``value``. Numbers as text are in order: the published set has them."""
        try:
            metres = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            metres = math.nan
        return None if 0 <= metres < math.inf else "metres, at least 0"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that the best constant length gets right."""
        return best_constant(truths, *self.tolerance)

    def show(self, value: NormalizedAnswer) -> str:
        """Return the length with its unit."""
        return super().show(value) if value is None else f"{value} m"


def parse_number(value: Any) -> float:
    """Return ``value`` as a float. Raises ValueError for what is no finite number."""
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise ValueError("not a number") from None
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _metres(value: float) -> int | float:
    """Return contact as the data sets write it: the int 0."""
    return value or 0


DISTANCE = LengthTask(
    name="distance",
    title="distance",
    cues=(
        Cue(Rank.INTERROGATIVE, r"how (?:far|distant|close|near)(?: away| apart)? (?:is|are)\b|how much (?:distance|space)\b"),
        Cue(Rank.INTERROGATIVE, r"how long is the way\b"),
        Cue(Rank.NOUN, r"(?<!st )distance (?:measurement )?(?:between|from|of|to)\b"),
        Cue(Rank.DIMENSION - 5, r"how long\b.{0,80}? (?:from|between)\b.{0,80}? (?:to|and)\b"),
        Cue(Rank.HINT, r"distan(?:ce|t)\b|how (?:far|close|near)\b|apart\b|gap\b|separat\w+|span\b|spac(?:e|ing)\b"),
        Cue(Rank.HINT, r"(?:centi|milli)?met(?:er|re)s\b|(?<!')m\b|feet\b|inches\b"),
    ),
    reply=ReplySchema("metres", float, "The distance in metres."),
)
