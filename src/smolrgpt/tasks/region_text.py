"""How questions name regions: ``<region k>`` by the asker's numbers, or one ``<mask>`` each in order."""

from __future__ import annotations

import re

from smolrgpt.schema import REGION_PLACEHOLDER, brief

#: ``Sample.metadata`` key: the asker's number of each region, in order of mention; answers are given in these.
REGION_NUMBERS = "region_numbers"

_MENTION = re.compile(r"<\s*region\s*(\d+)\s*>", re.IGNORECASE)
_BROKEN_MENTION = re.compile(r"<\s*region\b[^<>]{0,20}>", re.IGNORECASE)


def read_mentions(question: str, num_regions: int) -> tuple[str, list[int]]:
    """A question with ``<region k>`` or ``<mask>`` -> (text with one ``<mask>`` per mention, region number of each mention).

    Raises ValueError for a number out of range, both spellings mixed, or a count of ``<mask>`` that is not ``num_regions``.
    """
    if not isinstance(question, str):
        raise ValueError(f"a question is a {type(question).__name__}; expected a string")
    numbers = [int(number) for number in _MENTION.findall(question)]
    masks = question.count(REGION_PLACEHOLDER)
    broken = [text for text in _BROKEN_MENTION.findall(question) if not _MENTION.fullmatch(text)]
    if broken:
        raise ValueError(f"cannot read {broken[0]!r} in the question; {how_to_mention(num_regions)}")
    if numbers and masks:
        raise ValueError(f"the question mixes <region k> and {REGION_PLACEHOLDER}; use one of the two: {question[:80]!r}")
    wrong = [number for number in numbers if number >= num_regions]
    if wrong:
        raise ValueError(f"the question mentions <region {brief(wrong[0])}>; {_available(num_regions)}")
    if masks and masks != num_regions:
        raise ValueError(
            f"the question has {masks} {REGION_PLACEHOLDER} but {num_regions} regions were given; expected one per region, in order, "
            "or <region 0>, <region 1>, ... in any order"
        )
    return _MENTION.sub(REGION_PLACEHOLDER, question), numbers or list(range(masks))


def _available(num_regions: int) -> str:
    if num_regions == 0:
        return "no region was given"
    names = [f"<region {i}>" for i in range(num_regions)]
    return f"available: {', '.join(names if num_regions <= 6 else [*names[:2], '...', names[-1]])}"


def how_to_mention(num_regions: int) -> str:
    return f"write regions as <region NUMBER>, {_available(num_regions)}"
