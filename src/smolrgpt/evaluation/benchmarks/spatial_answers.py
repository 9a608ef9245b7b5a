"""Free-text answers to SpatialRGPT-Bench read by rules: lengths, clock directions, yes or no, and which of two regions. Needs no torch.

An answer is read the way a person skims it: what stands behind "Answer:" first, then the conclusion ("Therefore, ..."), then the first
sentence that says something; a question is no answer. What no rule reads is None. Inside a text ``<0>`` stands for Region [0], however it
was spelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from smolrgpt.tasks.region_text import LENGTH_UNITS, replace_regions, words_to_digits

T = TypeVar("T")

#: Unit -> the smaller one that may follow it and count on: 5 feet 3 inches, 1 m 20 cm.
_SUBUNIT = {LENGTH_UNITS[unit][0]: LENGTH_UNITS[part][0] for unit, part in (("ft", "in"), ("m", "cm"), ("yd", "ft"))}

#: What a statement says when it compares in a category's direction. Adjectives only compared: "a tall vase" says nothing of its neighbour.
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

_UNIT = "|".join(f"(?P<{unit}>{spellings})" for unit, (_, spellings) in LENGTH_UNITS.items())
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,9})(?:\.\d{1,9})?|\.\d{1,9}"
_TO = r"\s*(?:-|~|to|or)\s*"
_LENGTH = re.compile(
    rf"(?<![\w.\-/])(?P<low>{_NUMBER})(?:[ -](?P<over>\d{{1,2}}/\d{{1,2}}))?(?:(?:{_TO}|\s*(?P<and>and)\s*)(?P<high>{_NUMBER}))?"
    rf"[\s-]*(?:{_UNIT})(?![a-z²³])(?!(?<=[a-z])\d)"
)
#: Between two quantities: what makes them one sum, or one range.
_JOINS_SUM, _JOINS_RANGE = re.compile(r"\s*(?:,|and)?\s*"), re.compile(_TO)
_CLOCK = re.compile(rf"(?<![\w.:])(\d{{1,2}})(?::\d\d)?(?:{_TO}(\d{{1,2}}))?[\s-]*o\s*'?\s*clock")

_ANSWER = re.compile(r"\b(?:answer|confirmation|conclusion)\b(?:\s+is)?\s*:|\bthe (?:correct |final )?answer is\b")
_CONCLUDES = re.compile(r"\s*(?:therefore|thus|so|hence|overall|in conclusion|in summary)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
#: A sentence about something else the answer measures by, or about the picture.
_REFERENCE = re.compile(r"\b(?:typical(?:ly)?|average|standard|usual(?:ly)?|assum\w*|for example)\b")
_VERDICT = re.compile(r"\b(not )?(yes|yeah|true|correct|indeed|no|nope|false|incorrect)\b(?=\s*(?:$|[,.!:;\"')]|-|it |that |this |the |<))")
_POSITIVE = {"yes", "yeah", "true", "correct", "indeed"}
_NEGATION = re.compile(r"\bnot\b|n't\b|\bneither\b|\bno\b")
_NAME = re.compile(r"<(\d+)>")
#: "<0>: the red box", "<0> is the table": says what a region is, nothing about how it compares; "<0> is (the) taller" does.
_DEFINES = re.compile(r"[\s\-•]*<\d+>\s*(?::|(?:is|are)\s+(?:an?|the)\b|(?:refers to|contains|highlights|encompasses|shows)\b)")


def parse_length(answer: str) -> float | None:
    """Metres. A range counts as its middle, "5 feet 3 inches" as their sum; of "20 inches (51 cm)" the first; a bare number is metres."""
    text = _digits(_plain(answer))
    if bare := re.fullmatch(rf"(?:(?:about|approximately|~)\s*)?({_NUMBER})\.?", text.strip()):
        return _value(bare.group(1))
    return _skim(text, lambda sentence: next(iter(_lengths(sentence)), None), skips=_REFERENCE)


def parse_clock(answer: str) -> float | None:
    """Hours from 1 to below 13; "10 to 11 o'clock" is 10.5. A bare 1..12 is read too; "to the left" is no clock direction."""
    text = _digits(_plain(answer))
    if bare := re.fullmatch(r"(\d{1,2})(?::\d\d)?\.?", text.strip()):
        return _hours(bare.group(1), None)
    return _skim(text, lambda sentence: next((_hours(*found.groups()) for found in _CLOCK.finditer(sentence)), None))


def parse_predicate(answer: str, asked: str) -> bool | None:
    """Whether the answer says that Region [0] is ``asked`` (a key of ``RELATIONS``) of Region [1].

    A sentence that says "yes" and then states the opposite counts as what it states.
    """
    text = _without_options(_plain(answer), _VERDICT)
    return _skim(text, lambda sentence: _verdict(sentence, asked), lambda sentence: _holds(sentence, asked))


def parse_choice(answer: str, asked: str) -> int | None:
    """Which of Region [0] and Region [1] the answer says is more ``asked`` (a key of ``RELATIONS``)."""
    text = _without_options(_described(_plain(answer)), _NAME)
    return _skim(text, _only_name, lambda sentence: _chosen(sentence, asked), last=lambda text: _only_name(text, anywhere=True))


# --------------------------------------------------------------------------------------------------------------- text and its order
def _plain(answer: str) -> str:
    """Lower case without mark-up, typographic signs as ASCII, regions as ``<n>``."""
    text = answer.lower().translate(str.maketrans("’‘′“”″–—−≈\u00a0", "'''\"\"\"---~ ", "*`#"))
    return replace_regions(text, "<{}>".format)


def _digits(text: str) -> str:
    """Number words as digits: "twenty-five" 25, "half a meter" 0.5 meter, "one and a half" 1.5, "a foot" 1 foot."""
    text = words_to_digits(text)
    text = re.sub(r"\b(\d+) and a half\b", r"\1.5", text)
    text = re.sub(r"\ban? (\w+) and a half\b", r"1.5 \1", text)
    text = re.sub(r"\bhalf (?:of )?(?:an? )?(?=[mfiyc])", "0.5 ", text)
    text = re.sub(r"\ba couple of\b", "2", text)
    text = re.sub(r"\b(ft|yds?|approx)\.(?=[\s\d])", r"\1", text)  # no end of a sentence
    return re.sub(r"\ban? (?=(?:foot|inch|yard|met(?:er|re)|centimet(?:er|re))\b)", "1 ", text).replace("½", ".5")


def _without_options(text: str, option: re.Pattern[str]) -> str:
    """The text without a list of different answers to choose from: lines that are "yes" and "no", or the two regions' names."""
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
    """What the first reader finds behind the last "Answer:", in a conclusion, anywhere; then what the next one does; then ``last``."""
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


# ---------------------------------------------------------------------------------------------------------------------- quantities
@dataclass(frozen=True)
class _Quantity:
    """low..high in units of ``metres``, found in text[start:end]."""

    low: float
    high: float
    metres: float
    start: int
    end: int

    @property
    def middle_m(self) -> float:
        return (self.low + self.high) / 2 * self.metres


def _lengths(text: str) -> Iterator[float]:
    """The lengths in metres, in order; neighbours that belong together as one, conversions in brackets left out."""
    found = [_quantity(match, text) for match in _LENGTH.finditer(text)]
    yield from (quantity.middle_m for quantity in _joined(_joined(found, text, _sum), text, _range))


def _joined(quantities: list[_Quantity], text: str, join: Callable[[_Quantity, _Quantity, str], _Quantity | None]) -> list[_Quantity]:
    """Neighbours as one where ``join`` (of the first, the second and the text between them) makes one of them."""
    done: list[_Quantity] = []
    for quantity in quantities:
        one = join(done[-1], quantity, text[done[-1].end : quantity.start]) if done else None
        done = [*done[:-1], one] if one else [*done, quantity]
    return done


def _sum(first: _Quantity, second: _Quantity, gap: str) -> _Quantity | None:
    """5 feet, 3 inches; not 2 feet, 24 inches, which is said twice."""
    if not _JOINS_SUM.fullmatch(gap) or _SUBUNIT.get(first.metres) != second.metres or second.middle_m >= first.metres:
        return None
    value = first.low + second.middle_m / first.metres
    return replace(first, low=value, high=value, end=second.end)


def _range(first: _Quantity, second: _Quantity, gap: str) -> _Quantity | None:
    """2 m to 3 m."""
    if not _JOINS_RANGE.fullmatch(gap) or first.low != first.high:
        return None
    return replace(first, high=second.high * second.metres / first.metres, end=second.end)


def _quantity(match: re.Match[str], text: str) -> _Quantity:
    metres = next(factor for unit, (factor, _) in LENGTH_UNITS.items() if match[unit] is not None)
    low, start = _value(match["low"]), match.start()
    high = low if match["high"] is None else _value(match["high"])
    if match["and"] and not re.search(r"between\s*$", text[:start]):  # "pillar 2 and 3 meters"
        low = high
    if match["over"]:
        above, below = map(int, match["over"].split("/"))
        low = high = low + above / max(below, 1)
    return _Quantity(low, high, metres, start, match.end())


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _hours(first: str, second: str | None) -> float | None:
    low, high = int(first), int(second or first)
    if not (1 <= low <= 12 and 1 <= high <= 12):
        return None
    middle = low + (high - low) % 12 / 2
    return middle if middle < 13 else middle - 12


# ----------------------------------------------------------------------------------------------------------------------- statements
def _verdict(sentence: str, asked: str) -> bool | None:
    """What a sentence with a yes or a no in it says."""
    found = _VERDICT.search(sentence)
    if found is None:
        return None
    stated = _holds(sentence[found.end() :], asked)
    return stated if stated is not None else (found.group(2) in _POSITIVE) != bool(found.group(1))


def _holds(sentence: str, asked: str) -> bool | None:
    """Whether a statement says that Region [0] is ``asked`` of Region [1]."""
    stated = _statement(sentence, asked)
    return None if stated is None else (stated[0] == 0) == stated[1]


def _chosen(sentence: str, asked: str) -> int | None:
    """The region a statement says is more ``asked`` than the other."""
    stated = _statement(sentence, asked, pronoun=False)
    return None if stated is None else stated[0] if stated[1] else 1 - stated[0]


def _statement(sentence: str, asked: str, pronoun: bool = True) -> tuple[int, bool] | None:
    """(region 0 or 1, whether it is said to be ``asked``; False: the opposite), by the first comparison that has a subject.

    pronoun: whether a comparison that names no region ("it appears further away") is about Region [0], as the questions are.
    """
    if _DEFINES.match(sentence) and not re.search(r"\bthan\b|\bcompared\b|\bmore to the\b|" + _compared(asked), sentence):
        return None
    sentence = re.sub(r"\b(?:between|of|comparing) <0> (?:and|or) <1>,?|\b(?:between|of|comparing) <1> (?:and|or) <0>,?", "", sentence)
    for found in re.finditer(rf"\b(?:(?P<asked>{RELATIONS[asked]})|(?P<opposite>{RELATIONS[OPPOSITES[asked]]}))\b", sentence):
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
            return subject, (found["asked"] is not None) != bool(_NEGATION.search(span))
    return None


def _compared(asked: str) -> str:
    """A relation to the other region by its name ("above <1>", "to the left of <1>") or a comparison after all ("is the taller one")."""
    relation = rf"(?:{RELATIONS[asked]}|{RELATIONS[OPPOSITES[asked]]})"
    return rf"\b{relation}(?: side)?(?: of)? <\d+>|\bis the {relation}(?: one)?\b"


def _only_name(sentence: str, anywhere: bool = False) -> int | None:
    """The region a sentence consists of ("<1>", "<1> (the door)"); ``anywhere``: the only one a text names."""
    names = {int(name) for name in _NAME.findall(sentence)}
    whole = anywhere or re.fullmatch(r"[^\w<(]*(?:it is |it's |that is |the answer is )?<\d+>\s*(?:\([^)]*\))?[^\w<(]*", sentence)
    return names.pop() if whole and len(names) == 1 and names <= {0, 1} else None


def _described(text: str) -> str:
    """ "<0> is the sofa. ... the sofa is taller": a short description, once given, stands for its region when no name is near."""
    for number, words in re.findall(r"<(\d+)>\s*(?:is|refers to|:|\()\s*the ((?:\w+ ?){1,3})(?=[.,;)\n]| and <)", text):
        text = re.sub(rf"(?<!is )(?<!: )(?<!\()(?<!refers to )\bthe {re.escape(words.strip())}\b(?!\s*\(<)", f"<{number}>", text)
    return text
