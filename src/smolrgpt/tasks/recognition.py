"""Recognition of the kind of a question from its words: the cues of all kinds, tried in order of their ranks."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

from smolrgpt.schema import REGION_PLACEHOLDER
from smolrgpt.tasks.base import Task
from smolrgpt.tasks.region_text import MARKED_REGION, REGION

#: Typographic characters and their ASCII forms.
_TYPOGRAPHY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2013": "-"})
#: Requests about the form of the answer ("number only", "just the number please", "answer in one word"), which do not depend on the kind
#: of question. "The number of pallets" and "as a number of metres" are no such requests.
_FORM_REQUEST = re.compile(
    r"""\b(?:
        (?:just\ |only\ )? (?:(?:as|in|with|give|write|say|state)\ )* (?:me\ )? (?:just\ |only\ )?
            (?:(?:a|an|the|one|single|plain|short)\ )* (?:number|digit|figure|word|value|answer|sentence)s?
            (?:\ (?:only|please|alone|is\ enough|will\ do))+
      | (?:just|only)\ (?:give\ |tell\ |say\ |write\ )? (?:me\ )? (?:a|the)\ (?:single\ )?
            (?:number|digit|figure|word|value|answer)\b (?!\ of)
      | (?:answer|reply|respond)\ (?:briefly|shortly|in\ one\ word|as\ a\ number
            |with\ (?:a|one|just\ a|only\ a)\ (?:single\ )?(?:number|word|digit))\b (?!\ of)
    )\b""",
    re.VERBOSE,
)
_NO_WORD = re.compile(r"[^\w'<>]+|(?<!\w)'|'(?!\w)")
_MASK = REGION_PLACEHOLDER


def plain_words(question: str) -> str:
    """Return a question as cues read it: lower case, words and ``<mask>`` separated by single spaces, no punctuation or quotation marks.

    Apostrophes inside of words stay; regions in any spelling are ``<mask>``; requests about the form of the answer are left out.
    """
    text = question.translate(_TYPOGRAPHY).lower().replace("<image>", " ")
    text = REGION.sub(f" {_MASK} ", MARKED_REGION.sub(f" {_MASK} ", text).replace(_MASK, f" {_MASK} "))
    text = _NO_WORD.sub(" ", text.replace("_", " "))
    return " ".join(_FORM_REQUEST.sub(" ", " ".join(text.split())).split())


class Recogniser:
    """Recognises the kind of a question from its words."""

    def __init__(self, tasks: Iterable[Task], other: Task):
        """Take the cues of ``tasks``; a question that no cue matches is ``other``."""
        self._other = other
        ranks: dict[int, list[tuple[re.Pattern[str], Task]]] = {}
        for task in tasks:
            for cue in task.cues:
                ranks.setdefault(cue.rank, []).append((_compiled(cue.pattern), task))
        self._ranks: Mapping[int, list[tuple[re.Pattern[str], Task]]] = dict(sorted(ranks.items()))

    def __call__(self, question: str) -> Task:
        """Return the kind that the first matching rank's earliest cue names."""
        text = plain_words(question)
        for cues in self._ranks.values():
            found = [(match.start(), position, task) for position, (cue, task) in enumerate(cues) if (match := cue.search(text))]
            if found:
                return min(found, key=lambda entry: entry[:2])[2]
        return self._other


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:\b|^)(?:{pattern})")
