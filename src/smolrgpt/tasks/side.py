"""Left or right: on which side the first region is of the second, as the image shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smolrgpt.tasks.base import Cue, NormalizedAnswer, Rank, ReplySchema, Task
from smolrgpt.tasks.region_text import find_regions

OPPOSITE = {"left": "right", "right": "left"}

#: The official script's spellings of a side.
_SPELLINGS = {spelling.format(side): side for side in OPPOSITE for spelling in ("{}", "{} side", "{}-hand", "{} hand")}
_SPELLINGS |= {"l": "left", "r": "right"}
_SIDE = re.compile(r"\b(left|right)\b(?! now)", re.IGNORECASE)
_VERDICT = re.compile(r"(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False, kw_only=True)
class SideTask(Task):
    """A question whose answer is 'left' or 'right'."""

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of a side."""
        return " ?(?:left|right)"

    def _read_short(self, text: str) -> NormalizedAnswer:
        return {"l": "left", "left": "left", "r": "right", "right": "right"}.get(text)

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the side of the first region; a statement about the second region gives it mirrored."""
        for sentence in reversed(sentences):
            sides = [side.lower() for side in _SIDE.findall(sentence)]
            if len(set(sides)) != 1:
                continue
            return OPPOSITE[sides[0]] if is_mirrored(find_regions(sentence)) else sides[0]
        asked = {side.lower() for side in _SIDE.findall(question)}
        verdict = _VERDICT.match(sentences[0])
        if verdict is None or len(asked) != 1:
            return None
        (side,) = asked
        return side if verdict[1].lower() == "yes" else OPPOSITE[side]

    def parse(self, value: Any) -> str:
        """Return 'left' or 'right' for the official spellings. Raises ValueError for any other text."""
        side = _SPELLINGS.get(str(value).lower().strip())
        if side is None:
            raise ValueError("neither 'left' nor 'right'")
        return side

    def problem(self, value: Any, num_regions: int) -> str | None:
        """Return what is expected in place of ``value``."""
        return None if value in OPPOSITE else "'left' or 'right'"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that guessing one of the two gets right."""
        return 0.5


def is_mirrored(mentions: Sequence[int]) -> bool:
    """Return whether a statement gives the side of the second region relative to the first; mentions: its region indices, in order."""
    return len(mentions) == 2 and mentions[0] > mentions[1]


LEFT_RIGHT = SideTask(
    name="left_right",
    title="left or right",
    cues=(
        Cue(Rank.EXPLICIT, r"(?:which|what) (?:hand )?(?:side|way|direction)\b|leftwards\b"),
        Cue(Rank.EXPLICIT, r"(?:left|right)\b.{0,80}\bor\b.{0,80}\b(?:left|right)\b"),  # not .*, which long questions make slow
        Cue(Rank.HINT, r"lateral(?:ly)?\b|sideways\b"),
        Cue(Rank.WEAK, r"(?:left|right)\b"),
    ),
    reply=ReplySchema("side", Literal["left", "right"], "On which side the first region is."),
    guess="left",
)
