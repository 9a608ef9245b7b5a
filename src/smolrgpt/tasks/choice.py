"""Which one: the region, of those that a question lists, that stands out, such as the leftmost or the nearest to another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from smolrgpt.tasks.base import Cue, NormalizedAnswer, Rank, ReplySchema, Task
from smolrgpt.tasks.region_text import NUMBER_WORDS, REGION, find_regions, region_tag

#: What sets the chosen region apart; the region named just before "is ... <one of these>" is the answer.
_CHOICE = r"(?:\w+most|closest|nearest|shortest|best|optimal|most|middle|answer|only)\b"
_SUBJECT_IS_CHOICE = re.compile(rf"{REGION.pattern}\s+(?:is|are|appears?|would be|makes?)\b(?! not)[^.\[<]*?\b{_CHOICE}", re.IGNORECASE)
_CHOICE_IS_OBJECT = re.compile(rf"\b{_CHOICE}[^.]*?\bis\b[^.\[<]*{REGION.pattern}", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
#: The number words that the official script replaces, in its order.
_OFFICIAL_NUMBER_WORDS = tuple(NUMBER_WORDS)[:11]


@dataclass(frozen=True, eq=False, kw_only=True)
class ChoiceTask(Task):
    """A question whose answer is one of its regions."""

    names_region: bool = field(default=True, init=False)

    def field_pattern(self, num_regions: int) -> str | None:
        """Return the pattern of the region indices of the question; None where it has no region."""
        return f" ?(?:{'|'.join(map(str, range(num_regions)))})" if num_regions else None

    def _read_short(self, text: str) -> NormalizedAnswer:
        found = REGION.fullmatch(text) or re.fullmatch(r"\[?(\d{1,4})\]?", text)
        return str(int(found[1])) if found else None

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the region that a statement sets apart, else the only one that the text names."""
        for pattern in (_SUBJECT_IS_CHOICE, _CHOICE_IS_OBJECT):
            for sentence in reversed(sentences):
                if found := pattern.search(sentence):
                    return str(int(found[1]))
        regions = set(find_regions(" ".join(sentences)))
        return str(regions.pop()) if len(regions) == 1 else None

    def parse(self, value: Any) -> str:
        """Return the first run of digits after number words became digits. Raises ValueError when there is none.

        Words are replaced one after the other as parts of the text, so "none" reads "n1": a quirk of the official script, which is kept.
        """
        text = str(value).lower()
        if text.isascii() and text.isdigit():
            return text
        for number, word in enumerate(_OFFICIAL_NUMBER_WORDS):
            text = text.replace(word, str(number))
        found = _DIGITS.search(text)
        if found is None:
            raise ValueError("no region index")
        return found[0]

    def problem(self, value: Any, num_regions: int) -> str | None:
        """Return what is expected in place of ``value``."""
        in_order = isinstance(value, str) and re.fullmatch(r"\d{1,6}", value) is not None and int(value) < num_regions
        return None if in_order else f"a region number below {num_regions} as a string of digits"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that guessing one of each question's regions gets right."""
        return sum(1 / max(1, count) for count in num_regions) / len(num_regions) if num_regions else 0.0

    def show(self, value: NormalizedAnswer) -> str:
        """Return the chosen region as ``[Region k]``."""
        return region_tag(int(value)) if isinstance(value, str) and value.isdecimal() else super().show(value)


MCQ = ChoiceTask(
    name="mcq",
    title="choice of a region",
    cues=(
        Cue(Rank.INTERROGATIVE, r"which\b(?! distance)|what (?:object|pallet|buffer|transporter|shelf)\b"),
        Cue(Rank.SUPERLATIVE, r"(?:left|right|front|rear|back|top|bottom) ?most\b|(?:near|clos|furth|farth|short|small)est\b"),
        Cue(Rank.SUPERLATIVE, r"(?:most|least|fewest)\b|(?:far|very|outer|extreme) (?:left|right)\b|(?:left|right)(?: hand)? end\b"),
    ),
    reply=ReplySchema("region", int, "The number of the region that was chosen, as in [Region 3]."),
    guess="0",
)
