"""How many: the number of listed objects that meet a condition, such as standing in a buffer region."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smolrgpt.tasks.base import Cue, NormalizedAnswer, Rank, ReplySchema, Task
from smolrgpt.tasks.distance import parse_number
from smolrgpt.tasks.region_text import NUMBER_WORDS, REGION

_COUNT = rf"\b(\d{{1,9}}|no|{'|'.join(NUMBER_WORDS)})\b"
_COUNTED = re.compile(rf"{_COUNT}(?: \w+){{0,2}}? (?:pallets?|objects?|boxes|transporters?)\b", re.IGNORECASE)
_LISTED = re.compile(rf"pallets?\s+((?:(?:,|and)?\s*{REGION.pattern}\s*)+)", re.IGNORECASE)
_LENGTH_UNIT = r"(?:(?:milli|centi|kilo)?met(?:er|re)s|(?<!')m|cms?|mms?|feet|foot|ft|inches|inch|yards?)\b"


@dataclass(frozen=True, eq=False, kw_only=True)
class CountTask(Task):
    """A question whose answer is a whole number."""

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of a number from 0 to 99."""
        return r" ?(?:[0-9]|[1-9][0-9])"

    def _read_short(self, text: str) -> NormalizedAnswer:
        return NUMBER_WORDS.get(text, int(text) if re.fullmatch(r"\d{1,9}", text) else None)

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the number that the conclusion states, else how many pallets are listed."""
        conclusion = REGION.sub("", sentences[-1])
        stated = _COUNTED.findall(conclusion) or re.findall(_COUNT, conclusion, re.IGNORECASE)
        if stated:
            word = stated[-1].lower()
            return 0 if word == "no" else NUMBER_WORDS.get(word, int(word) if word.isdigit() else None)
        for sentence in reversed(sentences):
            if listed := _LISTED.search(sentence):
                return len(REGION.findall(listed[1]))
        return None

    def parse(self, value: Any) -> int:
        """Return ``int(float(value))``: "3.7" is 3, as in the official script. Raises ValueError for what is no finite number."""
        return int(parse_number(value))

    def relative_error(self, truth: int, prediction: int) -> float:
        """Return |p - g| / max(1, g), the official definition."""
        return abs(prediction - truth) / max(1, truth)

    def problem(self, value: Any, num_regions: int) -> str | None:
        """Return what is expected in place of ``value``."""
        in_order = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if in_order else "an integer, at least 0"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that the commonest count gets right."""
        return Counter(truths).most_common(1)[0][1] / len(truths) if truths else 0.0


COUNT = CountTask(
    name="count",
    title="count",
    cues=(Cue(Rank.EXPLICIT + 2, rf"how many\b(?! {_LENGTH_UNIT})|(?:number|amount|quantity)\b(?! of {_LENGTH_UNIT})|(?:total|count)\b"),),
    reply=ReplySchema("count", int, "How many objects were counted."),
    guess=1,
)
