"""Regions in questions: every usual spelling of a mention is read, and what only looks like one is refused.

Legend: k is a region index, counted from 0; R regions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from smolrgpt.schema import REGION_PLACEHOLDER, brief
from smolrgpt.schema.text import plain_text
from smolrgpt.tasks.region_text import NUMBER_WORDS

#: How data sets write the placeholder of one region: one marker for colour, then one for depth, with any spaces between the two.
REGION_PAIR = re.compile(r"<mask>\s*<depth>|<mask_rgb>\s*<mask_depth>")
_PLACEHOLDER = re.compile(r"<\s*mask\s*>", re.IGNORECASE)

# A mention that has been read is its index between two private characters, which plain_text removes from questions. The second one states
# how it was written: with brackets, or without, as one region or as several ("regions 0").
_START, _BRACKETED, _BARE, _PLURAL = "\ue000", "\ue001", "\ue002", "\ue003"
_MARK = re.compile(f"{_START}(\\d+)[{_BRACKETED}-{_PLURAL}]")

_NOUN = r"(?:reg(?:ion)?|mask|obj(?:ect)?|seg(?:ment)?|(?:b(?:ounding[ _-]?)?)?box(?=e?s?\b|e?s?_|\d)|roi)(?:e?s)?"
_JOIN = r"(?:\s*[_#:=.]\s*|\s+|-)?(?:(?:number|no|nr|num|id|index|idx)\b[\s#:=.]*|\#)?"
_DIGITS = r"\d{1,20}"
_WORD = (
    rf"(?<=[\s_-])(?:{'|'.join(NUMBER_WORDS)})\b"
    r"(?!(?<=one) (?:can|could|would|should|may|might|must|will|ha[sd]|needs?|wants?|sees)\b)"
)
_UNIT = r"\s*-?\s*(?:[mck]?m|(?:milli|centi|kilo)?met(?:er|re)s?|inch(?:es)?|ft|foot|feet|yds?|yards?|miles?)\b"
#: What does not follow the number of a region: "the object 2 m away", "objects 2 and 3 pallets", "region 1.5".
_NO_QUANTITY = rf"(?![^\W_]|\.\d|{_UNIT}|\s*(?:(?:percent|degrees?|times|others?|more|pallets?|boxes|objects|transporters?|shelves)\b|%))"
_OPEN, _CLOSE = r"(?:\\?(?:[<\[{]\|?|&lt;)\s*){1,2}", r"(?:\s*\\?(?:\|?[>\]}]|&gt;)){1,2}"
#: "<region 1>", "[Region_1]", "<|obj1|>", "(mask #1)", "Region [1]", "<1>", "[1]".
_WITH_BRACKETS = re.compile(
    rf"{_OPEN}{_NOUN}{_JOIN}({_DIGITS}|{_WORD}){_CLOSE}"
    rf"|\(\s*{_NOUN}{_JOIN}({_DIGITS}|{_WORD})\s*\)"
    rf"|\b{_NOUN}{_JOIN}\s*(?:[\[<({{]\s*({_DIGITS})\s*[\]>)}}])"
    rf"|<\s*\#?({_DIGITS})\s*>|\[\s*\#?({_DIGITS})\s*\]",
    re.IGNORECASE,
)
#: "region 1", "Mask #2", "object one", "#3", "<region 1" without its end.
_WITHOUT_BRACKETS = re.compile(
    rf"(?:{_OPEN})?\b(?P<noun>{_NOUN}){_JOIN}({_DIGITS}|{_WORD}){_NO_QUANTITY}|(?<![\w#&])\#({_DIGITS}){_NO_QUANTITY}", re.IGNORECASE
)
_AND = r"(?:\s*[,;/&+]|\s+(?:and|or|to|from|vs\.?|versus)\b)+\s*(?:the\s+)?\#?"
#: A further number of a list that a mention without brackets begins: "regions 0, 1 and 2", "from region 0 to 1".
_FURTHER = re.compile(
    rf"(?<=([{_BARE}{_PLURAL}]))({_AND}|(?<={_PLURAL})\s+)({_DIGITS}{_NO_QUANTITY}|{_WORD}(?=\s*(?:[?.!,;]|$)))", re.IGNORECASE
)
_UNREADABLE = re.compile(
    # "<region a>", "<region 0, 1>", "regions [0, 1]"
    rf"[<\[{{]\s*{_NOUN}(?![a-z])[^<>\[\]{{}}]{{0,60}}[>\]}}]|\b{_NOUN}\s*[\[(<{{]\s*\d[\d\s,;&-]{{0,40}}(?:and \d+\s*)?[\])>}}]"
    # "region -1", "region 1.5"
    rf"|\b{_NOUN}\s+-\s?\d+|\b{_NOUN}{_JOIN}\d+\.\d+(?!{_UNIT})"
    # "<regoin 1>", "<r1>", "[area 1]", "regoin 1"
    rf"|[<\[]\s*[a-z][a-z _-]{{0,20}}#?\d{{1,4}}\s*/?[>\]]|\b(?!regions?[^a-z])r[egion]{{4,7}}s?\s*[_#]?\d{{1,4}}{_NO_QUANTITY}"
    # "regions 0 to 2", "region 0-2"
    rf"|{_START}\d+(?:[{_BARE}{_PLURAL}]\s*(?:-|\.\.+)|{_PLURAL}\s*(?:to|through|until)\b)\s*\#?\d+"
    # "how far is <region 0> from 1?"
    rf"|{_START}\d+{_BRACKETED}{_AND}{_DIGITS}{_NO_QUANTITY}",
    re.IGNORECASE,
)
#: A mention in quotation marks or in mark-up: **region 1**, `region 1`, "region 1".
_EMPHASIS = re.compile(rf"[*`\"'«_]+({_MARK.pattern})[*`\"'»_]+")
#: A number at the end of a question, which may be a region: "is <region 0> taller than 1?"
_LAST_NUMBER = re.compile(rf"[{_BRACKETED}-{_PLURAL}].*?\b((?:than|from|of|and|or|vs\.?|versus) \#?({_DIGITS}))\s*[?.!]*$", re.IGNORECASE)


# --------------------------------------------------------------------------------------------------------------------------- reading
def read_mentions(question: str, num_regions: int) -> tuple[str, list[int]]:
    """Turn a question that mentions regions into one with a ``<mask>`` per mention, and the region index of each mention.

    A mention is ``<region 1>`` or a usual spelling of the same: with other brackets or none ("[Region 1]", "region 1", "regions 0 and 1"),
    with another noun ("<obj1>", "mask 2"), with its number in words, "[1]" or "#1". A question may instead have one plain ``<mask>`` per
    region, in order. What is returned is ``plain_text``.

    Raises:
        ValueError: when an index is out of range, numbers and ``<mask>`` are mixed, what looks like a mention cannot be read, or the number
            of ``<mask>`` is not ``num_regions``.
    """
    if not isinstance(question, str):
        raise ValueError(f"a question is a {type(question).__name__}; expected a string")
    text = REGION_PAIR.sub(REGION_PLACEHOLDER, _PLACEHOLDER.sub(REGION_PLACEHOLDER, plain_text(question)))
    text = _mark_mentions(text, num_regions)
    indices = [int(index) for index in _MARK.findall(text)]
    masks = text.count(REGION_PLACEHOLDER)
    if indices and masks:
        raise ValueError(f"the question mixes numbered regions and {REGION_PLACEHOLDER}; use one of the two: {question[:80]!r}")
    wrong = [index for index in indices if index >= num_regions]
    if wrong:
        from_one = ", but regions are numbered from 0, so the first is <region 0>" if wrong[0] == num_regions > 0 else ""
        raise ValueError(f"the question mentions <region {brief(wrong[0])}>{from_one}; {_available(num_regions)}")
    if masks and masks != num_regions:
        raise ValueError(
            f"the question has {masks} {REGION_PLACEHOLDER} but {num_regions} regions were given; expected one per region, in order, "
            "or <region 0>, <region 1>, ... in any order"
        )
    return _MARK.sub(REGION_PLACEHOLDER, text), indices or list(range(masks))


def _mark_mentions(text: str, num_regions: int) -> str:
    """Replace every numbered mention by its mark. Raises ValueError where the number of a region would be left as text."""
    text = _WITH_BRACKETS.sub(lambda found: _mark(found, _BRACKETED), text)
    unread = _find_unreadable(text)
    text = _WITHOUT_BRACKETS.sub(lambda found: _mark(found, _PLURAL if (found["noun"] or "").lower().endswith("s") else _BARE), text)
    unread = unread or _find_unreadable(text)
    while unread is None and (found := _FURTHER.search(text)):
        text = f"{text[: found.start()]}{found[2].removesuffix('#')}{_mark(found, found[1])}{text[found.end() :]}"
    if unread is None and (last := _LAST_NUMBER.search(text)) and int(last[2]) < num_regions:
        unread = last[1]
    if unread is not None:
        found_text = brief(_MARK.sub(r"<region \1>", unread))
        raise ValueError(f"cannot read {found_text!r} in the question; {how_to_mention(num_regions)}")
    return _EMPHASIS.sub(r"\1", text)


def _find_unreadable(text: str) -> str | None:
    return next((found[0] for found in _UNREADABLE.finditer(text) if found[0] != REGION_PLACEHOLDER), None)


def _mark(found: re.Match[str], end: str) -> str:
    """Return the mark of a mention whose number is the last group of ``found``."""
    number = next(group for group in reversed(found.groups()) if group).lower()
    return f"{_START}{NUMBER_WORDS[number] if number in NUMBER_WORDS else int(number)}{end}"


# --------------------------------------------------------------------------------------------------------------------------- writing
def write_mentions(question: str, labels: Sequence[str | int] | None = None, form: str = "<region {}>") -> str:
    """Replace the ``<mask>`` of a question, in order, by ``form`` with a label each, by default 0, 1, 2, ...

    A leading ``<image>`` marker is dropped. Raises ValueError when the number of labels is not that of the placeholders.
    """
    first, *rest = question.replace("<image>", "").strip().split(REGION_PLACEHOLDER)
    names = list(range(len(rest))) if labels is None else list(labels)
    if len(names) != len(rest):
        raise ValueError(f"{len(names)} labels for {len(rest)} {REGION_PLACEHOLDER} in {question!r}; expected one label each")
    return first + "".join(form.format(name) + text for name, text in zip(names, rest, strict=True))


def how_to_mention(num_regions: int) -> str:
    """Return the advice that messages give on how a question mentions one of ``num_regions`` regions."""
    return f"write regions as <region NUMBER>, {_available(num_regions)}"


def _available(num_regions: int) -> str:
    if num_regions == 0:
        return "no region was given"
    names = [f"<region {i}>" for i in range(num_regions)]
    return f"available: {', '.join(names if num_regions <= 6 else [*names[:2], '...', names[-1]])}"
