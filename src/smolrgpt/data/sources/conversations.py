"""Conversations of the LLaVA form, ``[{"from": "human" | "gpt", "value": text}, ...]``, to questions and answers in our spelling."""

from __future__ import annotations

import itertools
import re
from typing import Any

from smolrgpt.schema import REGION_PLACEHOLDER, DataError, Region
from smolrgpt.tasks.region_text import MARKED_REGION, region_tag, replace_regions

_IMAGE_TOKEN = re.compile(r"\A\s*<image>\s*|\s*<image>\s*\Z")
#: How data sets write the one place of a region's features: for colour, then for depth. Spaces between the two belong to the spelling.
_REGION_PAIR = re.compile(r"<mask>\s*<depth>|<mask_rgb>\s*<mask_depth>")
_HALF_PAIR = re.compile(r"<depth>|<mask_rgb>|<mask_depth>")


def first_question(conversations: Any) -> tuple[str, str | None]:
    """The first human turn without its image token, and the turn that answers it. Spelling stays as it is."""
    turns = [turn for turn in conversations if isinstance(turn, dict)] if isinstance(conversations, list) else []
    said: dict[str, str] = {}
    for turn in turns:
        if isinstance(turn.get("value"), str):
            said.setdefault(str(turn.get("from")), turn["value"])
    if "human" not in said:
        raise DataError("conversations have no human turn with a text; expected [{'from': 'human', 'value': ...}, ...]")
    return without_image_token(said["human"]), said.get("gpt")


def region_questions(conversations: list[Any], regions: list[Region]) -> list[tuple[str, str, list[Region]]]:
    """Every human turn as (question, answer, its regions), in our spelling; the regions are dealt out in order of the placeholders.

    Raises DataError when human and gpt do not alternate, or when the placeholders of all turns are not as many as the regions.
    """
    speakers = ("human", "gpt")
    for index, turn in enumerate(conversations):
        said = isinstance(turn, dict) and isinstance(turn.get("value"), str)
        if not said or turn.get("from") != speakers[index % 2]:
            raise DataError(f"turn {index} is {str(turn)[:60]!r}; expected a text from {speakers[index % 2]!r}")
    if not conversations or len(conversations) % 2:
        raise DataError(f"the conversation has {len(conversations)} turns; expected pairs of human and gpt")
    texts = [turn["value"] for turn in conversations]
    asked = [with_placeholders(without_image_token(text)) for text in texts[::2]]
    ends = list(itertools.accumulate(text.count(REGION_PLACEHOLDER) for text in asked))
    if ends[-1] != len(regions):
        raise DataError(f"the conversation has {ends[-1]} region placeholders but {len(regions)} regions; expected one each, in order")
    starts = [0, *ends]
    return [
        (question, with_region_names(answer), regions[start:end])
        for question, answer, start, end in zip(asked, texts[1::2], starts, ends, strict=False)
    ]


def without_image_token(question: str) -> str:
    """The question without the ``<image>`` some data sets put in front, some behind: the processor places the image's tokens."""
    return _IMAGE_TOKEN.sub("", question)


def with_placeholders(question: str) -> str:
    """``<mask> <depth>`` and ``<mask_rgb><mask_depth>`` as the ``<mask>`` that stands for a region here. Raises DataError for halves."""
    text = _REGION_PAIR.sub(REGION_PLACEHOLDER, question)
    if half := _HALF_PAIR.search(text):
        raise DataError(f"{half[0]} stands without its other half in {question[:80]!r}; expected <mask> <depth> or <mask_rgb><mask_depth>")
    return text


def with_region_names(text: str) -> str:
    """``Region [0]``, the spelling of the Open Spatial family, as ``[Region 0]``.

    The processor and the warehouse write ``[Region 0]``, and where a model's regions are fused with their names that is the very token that
    carries the features. Two spellings of one thing would split what is learned about it between the curriculum's stages.
    """
    return replace_regions(text, region_tag, MARKED_REGION)
