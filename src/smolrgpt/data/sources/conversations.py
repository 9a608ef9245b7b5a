"""Conversations of the LLaVA form, ``[{"from": "human" | "gpt", "value": text}, ...]``, to questions and answers in one spelling."""

from __future__ import annotations

import itertools
import re
from typing import Any

from smolrgpt.schema import REGION_PLACEHOLDER, DataError, Region, brief
from smolrgpt.tasks.mentions import REGION_PAIR
from smolrgpt.tasks.region_text import MARKED_REGION, region_tag, replace_regions

_SPEAKERS = ("human", "gpt")
_IMAGE_TOKEN = re.compile(r"\A\s*<image>\s*|\s*<image>\s*\Z")
_HALF_PAIR = re.compile(r"<depth>|<mask_rgb>|<mask_depth>")


def first_question(conversations: Any) -> tuple[str, str | None]:
    """Return the first human turn without its image token, and the first gpt turn; the spelling of both stays as it is."""
    turns = [turn for turn in conversations if isinstance(turn, dict)] if isinstance(conversations, list) else []
    first: dict[str, str] = {}
    for turn in turns:
        if isinstance(turn.get("value"), str):
            first.setdefault(str(turn.get("from")), turn["value"])
    if "human" not in first:
        raise DataError("conversations have no human turn with a text; expected [{'from': 'human', 'value': ...}, ...]")
    return without_image_token(first["human"]), first.get("gpt")


def region_questions(conversations: list[Any], regions: list[Region]) -> list[tuple[str, str, list[Region]]]:
    """Return every human turn as (question, answer, its regions); the regions are dealt out in order of the placeholders.

    Raises DataError when human and gpt do not alternate, or when all turns together have not as many placeholders as there are regions.
    """
    texts = _alternating_texts(conversations)
    questions = [with_placeholders(without_image_token(text)) for text in texts[::2]]
    ends = list(itertools.accumulate(question.count(REGION_PLACEHOLDER) for question in questions))
    if ends[-1] != len(regions):
        raise DataError(f"the conversation has {ends[-1]} region placeholders but {len(regions)} regions; expected one each, in order")
    return [
        (question, with_region_tags(answer), regions[start:end])
        for question, answer, start, end in zip(questions, texts[1::2], [0, *ends[:-1]], ends, strict=True)
    ]


def _alternating_texts(conversations: list[Any]) -> list[str]:
    for index, turn in enumerate(conversations):
        speaker = _SPEAKERS[index % 2]
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str) or turn.get("from") != speaker:
            raise DataError(f"turn {index} is {brief(turn)!r}; expected a text from {speaker!r}")
    if not conversations or len(conversations) % 2:
        raise DataError(f"the conversation has {len(conversations)} turns; expected pairs of human and gpt")
    return [turn["value"] for turn in conversations]


def without_image_token(question: str) -> str:
    """Return the question without a leading or trailing ``<image>``: the processor places the image's tokens."""
    return _IMAGE_TOKEN.sub("", question)


def with_placeholders(question: str) -> str:
    """Replace ``<mask> <depth>`` and ``<mask_rgb><mask_depth>`` by ``<mask>``. Raises DataError for half a pair."""
    text = REGION_PAIR.sub(REGION_PLACEHOLDER, question)
    if half := _HALF_PAIR.search(text):
        raise DataError(
            f"{half[0]} stands without its other half in {brief(question)!r}; expected <mask> <depth> or <mask_rgb><mask_depth>"
        )
    return text


def with_region_tags(text: str) -> str:
    """Write every region of an answer as ``[Region 0]``; the Open Spatial family has ``Region [0]``.

    The processor and the warehouse write ``[Region 0]``, and where a model's region embeddings are added to region tags, that is the very
    token that carries them. A second spelling would split what is learned about it between the curriculum's stages.
    """
    return replace_regions(text, region_tag, MARKED_REGION)
