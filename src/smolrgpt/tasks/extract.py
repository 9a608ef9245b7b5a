"""From a free-text answer to the short one that is scored: a few rules per category, no model. Needs no torch.

Understands the data set's chains of statements ("... Therefore, the buffer region [Region 2] has two pallets."), the short forms
("left", "3", "2.32", "[Region 4]") and a chain that ends in a short form. What no rule reads is None and counts as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Answer = str | int | float | None

_UNITS = r"(?:(?:centi)?met(?:er|re)s|(?<!')m|feet|inches)\b"
#: First match names the category, so the order matters: "which object appears closest to the right" is mcq, not left_right.
CATEGORY_RULES: tuple[tuple[str, str], ...] = (
    (r"\b(?:which|what) (?:hand )?(?:side|way|direction)\b|\bleftwards\b", "left_right"),
    (r"\b(?:left|right)\b.{0,80}\bor\b.{0,80}\b(?:left|right)\b", "left_right"),  # not .*, which long questions make slow
    (rf"\bhow many (?!{_UNITS})|\b(?:number|amount|quantity)\b(?! of {_UNITS})|\b(?:total|count)\b", "count"),
    (r"\bvertical(?:ly)?\b(?! size)|\bhow much (?:higher|lower)\b|\bhigher or lower\b|\bup(?:-| and | or )down\b", "vertical"),
    (r"\b(?:height|elevation) difference\b|\bdifference in (?:height|elevation)\b", "vertical"),
    (r"\bwhich\b(?! distance)|\bwho\b|\bwhat (?:object|pallet|buffer|transporter|shelf)\b", "mcq"),
    (r"\bhow (?:far|distant|close|near)(?: away)? (?:is|are)\b|\bhow much (?:distance|space)\b|\bhow long is the way\b", "distance"),
    (r"(?<!st )\bdistance (?:between|from|of|to)\b", "distance"),
    (r"\b(?:left|right|front|rear|back|top|bottom)-?most\b|\b(?:near|clos|furth|farth|short|small)est\b", "mcq"),
    (r"\b(?:most|least|fewest)\b|\b(?:far|very|outer|extreme) (?:left|right)\b|\b(?:left|right)(?:-hand)? end\b", "mcq"),
    (r"\b(?:how|met(?:er|re)s) (?:wide|broad|long)\b|\b(?:wid|bread)th\b|\b(?:side|left) (?:side )?to (?:its )?(?:side|right)\b", "width"),
    (r"\b(?:how|met(?:er|re)s) (?:tall|high)\b|\bheight\b|\bto (?:its )?top\b|\bvertical size\b", "height"),
    (rf"\bdistan(?:ce|t)\b|\bhow (?:far|close|near)\b|\bapart\b|\bgap\b|\bseparat\w+|\bspan\b|\bspac(?:e|ing)\b|\b{_UNITS}", "distance"),
    (r"\b(?:left|right)\b", "left_right"),
)
#: Lengths besides the distance: across, up, and how far up one thing's middle is from another's. The warehouse score has none of them.
SIZES = ("width", "height", "vertical")
#: A longer text is no answer: those of the data sets have some hundred characters, the longest chain a model is taught some thousand.
MAX_CHARS = 10_000
#: What a question is called that no rule knows.
OTHER = "other"

#: "[Region 3]", and the spellings "<region 3>", "Region [3]" and "region 3".
REGION = re.compile(r"[\[<]?\bregion\s*\[?\s*(\d{1,4})\s*[\]>]?", re.IGNORECASE)
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen")
NUMBER_WORDS = {word: number for number, word in enumerate(_WORDS)}
METRES_PER_UNIT = {"m": 1.0, "meter": 1.0, "metre": 1.0, "cm": 0.01, "centimeter": 0.01, "centimetre": 0.01, "foot": 0.3048, "feet": 0.3048}
#: Words of a statement of contact or containment, where the distance is 0.
CONTACT = re.compile(r"\b(?:within|inside|touch\w*|overlap\w*|in contact|contains?)\b", re.IGNORECASE)
#: What sets the chosen region apart; the region named just before "is ... <one of these>" is the answer.
CHOICE = r"(?:\w+most|closest|nearest|shortest|best|optimal|most|middle|answer|only)\b"

_NUMBER = r"(?<![\d.\-])(\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\d)"
_COUNT = rf"\b(\d{{1,9}}|no|{'|'.join(NUMBER_WORDS)})\b"
_UNIT = "|".join(sorted(METRES_PER_UNIT, key=len, reverse=True))
_DISTANCE = re.compile(rf"{_NUMBER}\s*({_UNIT})s?\b", re.IGNORECASE)
_COUNTED = re.compile(rf"{_COUNT}(?: \w+){{0,2}}? (?:pallets?|objects?|boxes|transporters?)\b", re.IGNORECASE)
_LISTED = re.compile(rf"pallets?\s+((?:(?:,|and)?\s*{REGION.pattern}\s*)+)", re.IGNORECASE)
_SIDE = re.compile(r"\b(left|right)\b(?! now)", re.IGNORECASE)
_SUBJECT_CHOICE = re.compile(rf"{REGION.pattern}\s+(?:is|are|appears?|would be|makes?)\b(?! not)[^.\[<]*?\b{CHOICE}", re.IGNORECASE)
_CHOICE_OBJECT = re.compile(rf"\b{CHOICE}[^.]*?\bis\b[^.\[<]*{REGION.pattern}", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n+")


def infer_category(question: str) -> str:
    """The category of a question from its words alone: left_right, count, mcq, distance, one of ``SIZES``, or 'other'."""
    for pattern, category in CATEGORY_RULES:
        if re.search(pattern, question, re.IGNORECASE):
            return category
    return OTHER


def extract(question: str, answer: str, category: str | None = None) -> Answer:
    """The normalised answer: 'left' or 'right'; int count; region number as a digit string; metres as a float (0 for contact); or None."""
    rule = _RULES.get(category or infer_category(question)) if len(answer) <= MAX_CHARS else None
    sentences = [sentence for sentence in _SENTENCE_END.split(answer.strip()) if sentence.strip()]
    if rule is None or not sentences:
        return None
    short = _short_form(rule, sentences[-1])
    return short if short is not None else _LONG_FORMS[rule](question, sentences)


_RULES = {"left_right": "side", "count": "count", "mcq": "choice", "distance": "distance", **dict.fromkeys(SIZES, "distance")}


def _short_form(rule: str, sentence: str) -> Answer:
    """The answer when a sentence consists of nothing else."""
    text = sentence.strip(" \t.!,;:'\"*").lower()
    if rule == "side":
        return {"l": "left", "left": "left", "r": "right", "right": "right"}.get(text)
    if rule == "choice":
        found = REGION.fullmatch(text) or re.fullmatch(r"\[?(\d{1,4})\]?", text)
        return str(int(found.group(1))) if found else None
    if rule == "count":
        return NUMBER_WORDS.get(text, int(text) if re.fullmatch(r"\d{1,9}", text) else None)
    return _metres(float(text)) if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", text) else None


def _side(question: str, sentences: list[str]) -> Answer:
    """The side of region 0 relative to region 1, which a statement about region 1 tells mirrored."""
    for sentence in reversed(sentences):
        sides = [side.lower() for side in _SIDE.findall(sentence)]
        if len(set(sides)) != 1:
            continue
        regions = [int(number) for number in REGION.findall(sentence)]
        mirrored = len(regions) == 2 and regions[0] > regions[1]
        return _opposite(sides[0]) if mirrored else sides[0]
    asked = {side.lower() for side in _SIDE.findall(question)}
    verdict = re.match(r"(yes|no)\b", sentences[0], re.IGNORECASE)
    if verdict is None or len(asked) != 1:
        return None
    return asked.pop() if verdict.group(1).lower() == "yes" else _opposite(asked.pop())


def _opposite(side: str) -> str:
    return "right" if side == "left" else "left"


def _choice(question: str, sentences: list[str]) -> Answer:
    for pattern in (_SUBJECT_CHOICE, _CHOICE_OBJECT):
        for sentence in reversed(sentences):
            if found := pattern.search(sentence):
                return str(int(found.group(1)))
    regions = {int(number) for number in REGION.findall(" ".join(sentences))}
    return str(regions.pop()) if len(regions) == 1 else None


def _count(question: str, sentences: list[str]) -> Answer:
    """The number the conclusion states, else how many pallets are listed."""
    conclusion = REGION.sub("", sentences[-1])
    stated = _COUNTED.findall(conclusion) or re.findall(_COUNT, conclusion, re.IGNORECASE)
    if stated:
        word = stated[-1].lower()
        return 0 if word == "no" else NUMBER_WORDS.get(word, int(word) if word.isdigit() else None)
    for sentence in reversed(sentences):
        if listed := _LISTED.search(sentence):
            return len(REGION.findall(listed.group(1)))
    return None


def _distance(question: str, sentences: list[str]) -> Answer:
    """The last number with a unit of length, else 0 when the last statement is one of contact."""
    if stated := _DISTANCE.findall(" ".join(sentences)):
        number, unit = stated[-1]
        return _metres(float(number) * METRES_PER_UNIT[unit.lower()])
    return 0 if CONTACT.search(sentences[-1]) else None


def _metres(value: float) -> int | float:
    return value or 0


_LONG_FORMS: dict[str, Callable[[str, list[str]], Answer]] = {"side": _side, "count": _count, "choice": _choice, "distance": _distance}
