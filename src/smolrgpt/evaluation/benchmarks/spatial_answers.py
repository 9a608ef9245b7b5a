"""Rules that read free-text answers to SpatialRGPT-Bench: lengths, clock directions, yes or no, and one of two regions. Needs no torch.

The parts of an answer are read in the order of their weight: what follows "Answer:", then the conclusion ("Therefore, ..."), then the first
sentence that a rule reads; a question is no answer. A parser returns None for a text that no rule reads. Inside of a text, ``<0>`` is
Region [0] in any spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from smolrgpt.tasks.answer_text import RANGE, bare_number, digits, plain_answer, stated_lengths
from smolrgpt.tasks.region_text import name_ordinals, replace_regions

T = TypeVar("T")

#: Relation -> the words of a comparison. Adjectives count only where they compare: "a tall vase" states nothing about another object.
RELATIONS: dict[str, str] = {
    "above": r"above|over|higher|on top of",
    "below": r"below|under|underneath|beneath|lower",
    "left": r"left|leftmost",
    "right": r"right|rightmost",
    "big": r"bigger|larger|greater|more size|exceeds?|surpass(?:es)?|as (?:big|large)",
    "small": r"smaller|less|lesser|as small",
    "tall": r"taller|higher|greater|larger|more height|exceeds?|surpass(?:es)?|as (?:tall|high)",
    "short": r"shorter|lower|smaller|less|lesser|falls? short|as short",
    "wide": r"wider|broader|bigger|greater|larger|more width|exceeds?|surpass(?:es)?|as wide",
    "thin": r"thinner|narrower|smaller|less|lesser|as (?:thin|narrow)",
    "behind": r"behind|further|farther|more distant|as (?:far|distant)",
    "front": r"front|closer|nearer|less distant|as (?:close|near)",
}
OPPOSITES = {"above": "below", "left": "right", "big": "small", "tall": "short", "wide": "thin", "behind": "front"}
OPPOSITES |= {second: first for first, second in OPPOSITES.items()}

_CLOCK = re.compile(rf"(?<![\w.:])(\d{{1,2}})(?::\d\d)?(?:{RANGE}(\d{{1,2}}))?[\s-]*o\s*'?\s*clock")

_ANSWER = re.compile(r"\b(?:answer|confirmation|conclusion)\b(?:\s+is)?\s*:|\bthe (?:correct |final )?answer is\b")
_CONCLUDES = re.compile(r"\s*(?:therefore|thus|so|hence|overall|in conclusion|in summary)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
#: A sentence about another object, with which the answer compares.
_REFERENCE = re.compile(r"\b(?:typical(?:ly)?|average|standard|usual(?:ly)?|assum\w*|for example)\b")
_VERDICT = re.compile(r"\b(not )?(yes|yeah|true|correct|indeed|no|nope|false|incorrect)\b(?=\s*(?:$|[,.!:;\"')]|-|it |that |this |the |<))")
_POSITIVE = {"yes", "yeah", "true", "correct", "indeed"}
_NEGATION = re.compile(r"\bnot\b|n't\b|\bneither\b|\bno\b")
_NAME = re.compile(r"<(\d+)>")
#: "<0>: the red box", "<0> is the table": states what a region is and compares nothing; "<0> is (the) taller" compares.
_DEFINES = re.compile(r"[\s\-•]*<\d+>\s*(?::|(?:is|are)\s+(?:an?|the)\b|(?:refers to|contains|highlights|encompasses|shows)\b)")


def parse_length(answer: str) -> float | None:
    """Return the length that an answer states, in metres.

    Of a range the middle counts, of "5 feet 3 inches" the sum, of "20 inches (51 cm)" the first length; a number without a unit is metres.
    """
    text = digits(_plain(answer))
    if (bare := bare_number(text)) is not None:
        return bare
    return _skim(text, lambda sentence: next(iter(stated_lengths(sentence)), None), skips=_REFERENCE)


def parse_clock(answer: str) -> float | None:
    """Return hours from 1 to below 13; "10 to 11 o'clock" is 10.5.

    A number from 1 to 12 alone is read, too; "to the left" is no clock direction.
    """
    text = digits(_plain(answer))
    if bare := re.fullmatch(r"(\d{1,2})(?::\d\d)?\.?", text.strip()):
        return _hours(bare.group(1), None)
    return _skim(text, lambda sentence: next((_hours(*found.groups()) for found in _CLOCK.finditer(sentence)), None))


def parse_predicate(answer: str, relation: str) -> bool | None:
    """Return whether the answer states that Region [0] has a relation, a key of ``RELATIONS``, to Region [1].

    Of a sentence with "yes" and then a statement of the opposite, the statement counts.
    """
    text = _without_options(_plain(answer), _VERDICT)
    return _skim(text, lambda sentence: _verdict(sentence, relation), lambda sentence: _holds(sentence, relation))


def parse_choice(answer: str, relation: str) -> int | None:
    """Return which of Region [0] and Region [1] has a relation, a key of ``RELATIONS``, to the other according to the answer."""
    text = _without_options(_described(_plain(answer)), _NAME)
    return _skim(text, _only_name, lambda sentence: _chosen(sentence, relation), last=lambda text: _only_name(text, anywhere=True))


# --------------------------------------------------------------------------------------------------------------- texts and sentences
def _plain(answer: str) -> str:
    """Return the text in lower case without mark-up, with typographic characters as ASCII and regions as ``<n>``."""
    text = plain_answer(answer).lower().translate(str.maketrans("\u2014\u2248", "-~", "#"))
    return replace_regions(name_ordinals(text), "<{}>".format)


def _without_options(text: str, option: re.Pattern[str]) -> str:
    """Return the text without a list of answers to choose from: lines that are "yes" and "no", or the two regions."""
    lines = text.split("\n")
    alone = {n: line.strip(" \t-•.:,") for n, line in enumerate(lines) if option.fullmatch(line.strip(" \t-•.:,"))}
    listed = {n for n in alone if len(set(alone.values())) > 1 and not any(_ANSWER.search(before) for before in lines[:n])}
    return "\n".join(line for n, line in enumerate(lines) if n not in listed)


def _skim(
    text: str,
    *readers: Callable[[str], T | None],
    skips: re.Pattern[str] | None = None,
    last: Callable[[str], T | None] | None = None,
) -> T | None:
    """Return what the readers find after the last "Answer:", else in a conclusion, else in any sentence, else what ``last`` finds.

    In each of these parts the first reader tries all sentences before the next reader does. Sentences that match ``skips`` are left out.
    """
    parts = _ANSWER.split(text)
    behind, everywhere = (
        [sentence for sentence in _SENTENCE_END.split(part) if sentence.strip() and not sentence.rstrip().endswith("?")]
        for part in (parts[-1], text)
    )
    conclusions = [sentence for sentence in reversed(everywhere) if _CONCLUDES.match(sentence)]
    stages = ([behind] if len(parts) > 1 else []) + [conclusions, everywhere]
    for sentences in stages:
        for read in readers:
            for sentence in sentences:
                if (skips is None or not skips.search(sentence)) and (found := read(sentence)) is not None:
                    return found
    return None if last is None else last(text)


# --------------------------------------------------------------------------------------------------------------- clock directions
def _hours(first: str, second: str | None) -> float | None:
    low, high = int(first), int(second or first)
    if not (1 <= low <= 12 and 1 <= high <= 12):
        return None
    middle = low + (high - low) % 12 / 2
    return middle if middle < 13 else middle - 12


# ----------------------------------------------------------------------------------------------------------------------- statements
def _verdict(sentence: str, relation: str) -> bool | None:
    """Return the verdict of a sentence with "yes", "no" or a synonym; a statement that follows decides."""
    found = _VERDICT.search(sentence)
    if found is None:
        return None
    stated = _holds(sentence[found.end() :], relation)
    return stated if stated is not None else (found.group(2) in _POSITIVE) != bool(found.group(1))


def _holds(sentence: str, relation: str) -> bool | None:
    """Return whether a sentence states that Region [0] has the relation to Region [1]."""
    stated = _statement(sentence, relation)
    return None if stated is None else (stated[0] == 0) == stated[1]


def _chosen(sentence: str, relation: str) -> int | None:
    """Return the region that has the relation to the other according to a sentence."""
    if re.search(r"\bneither\b", sentence):
        return None
    stated = _statement(sentence, relation, pronoun=False)
    return None if stated is None else stated[0] if stated[1] else 1 - stated[0]


def _statement(sentence: str, relation: str, pronoun: bool = True) -> tuple[int, bool] | None:
    """Return (region 0 or 1, True if it has the relation, False if the opposite) of the first comparison that has a subject.

    pronoun: whether a comparison without a region ("it appears further away") is about Region [0], which the questions are about.
    """
    if _DEFINES.match(sentence) and not re.search(r"\bthan\b|\bcompared\b|\bmore to the\b|" + _compared(relation), sentence):
        return None
    sentence = re.sub(r"\b(?:between|of|comparing) <0> (?:and|or) <1>,?|\b(?:between|of|comparing) <1> (?:and|or) <0>,?", "", sentence)
    for found in re.finditer(rf"\b(?:(?P<relation>{RELATIONS[relation]})|(?P<opposite>{RELATIONS[OPPOSITES[relation]]}))\b", sentence):
        before = list(_NAME.finditer(sentence, 0, found.start()))
        after = list(_NAME.finditer(sentence, found.end()))
        if before:
            subject, span = int(before[-1].group(1)), sentence[before[-1].end() : found.start()]
        elif after:
            between, other = sentence[found.end() : after[0].start()], int(after[0].group(1))
            is_subject = re.search(r"\b(?:is|are)\b|:", between) is not None
            subject, span = other if is_subject else 1 - other, sentence[: found.start()]
        elif pronoun and re.search(r"\bit\b", sentence[: found.start()]):
            subject, span = 0, sentence[: found.start()]
        else:
            continue
        if subject in (0, 1):
            return subject, (found["relation"] is not None) != bool(_NEGATION.search(span))
    return None


def _compared(relation: str) -> str:
    """Return the pattern of a relation to a region ("above <1>", "to the left of <1>") and of a comparison such as "is the taller one"."""
    words = rf"(?:{RELATIONS[relation]}|{RELATIONS[OPPOSITES[relation]]})"
    return rf"\b{words}(?: side)?(?: of)? <\d+>|\bis the {words}(?: one)?\b"


def _only_name(sentence: str, anywhere: bool = False) -> int | None:
    """Return the region that a sentence consists of ("<1>", "<1> (the door)"); ``anywhere``: the only region that a text names."""
    names = {int(name) for name in _NAME.findall(sentence)}
    whole = anywhere or re.fullmatch(r"[^\w<(]*(?:it is |it's |that is |the answer is )?<\d+>\s*(?:\([^)]*\))?[^\w<(]*", sentence)
    return names.pop() if whole and len(names) == 1 and names <= {0, 1} else None


def _described(text: str) -> str:
    """Replace a short description by its region where no region is near: "<0> is the sofa. ... the sofa is taller"."""
    for number, words in re.findall(r"<(\d+)>\s*(?:is|refers to|:|\()\s*the ((?:\w+ ?){1,3})(?=[.,;)\n]| and <)", text):
        text = re.sub(rf"(?<!is )(?<!: )(?<!\()(?<!refers to )\bthe {re.escape(words.strip())}\b(?!\s*\(<)", f"<{number}>", text)
    return text
