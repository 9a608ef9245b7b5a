"""Places among others, as the image shows them from left to right: the n-th from a side, the middle one, the one between two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.base import STEP_REGION, Cue, ReplySchema
from smolrgpt.tasks.choice import ChoiceTask
from smolrgpt.tasks.draft import Draft, Namer, makers_of
from smolrgpt.tasks.drawing import pick, shuffled
from smolrgpt.tasks.relations import is_side_clear, side_of
from smolrgpt.tasks.wording import MAX_LISTED

#: Ordinal -> how many scans it takes.
_ORDINALS = {"second": 2, "third": 3}
_REPLY = ReplySchema("region", int, "The number of the region that was chosen, as in [Region 3].")


def _draw_nth(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    listed = shuffled(graph.objects, rng)[: int(rng.integers(3, MAX_LISTED + 1))]
    ordinal, side = pick(rng, list(_ORDINALS)), pick(rng, ("left", "right"))
    if len(listed) <= _ORDINALS[ordinal] or not is_side_clear(graph, listed):
        return None
    order = sorted(listed, key=lambda item: item.image_xy[0], reverse=side == "right")
    chosen = order[_ORDINALS[ordinal] - 1]

    def steps(tag: Namer) -> str:
        found: list[str] = []
        for name, best in zip((f"{side}most", *_ORDINALS), order[: _ORDINALS[ordinal]], strict=False):
            left_over = [item for item in listed if item in order[order.index(best) :]]
            found += [*_scan(left_over, side, tag), f"{name}{tag(best)}"]
        return ", ".join(found)

    return Draft(
        "nth", {"list": listed, "nth": ordinal, "side": side}, chosen, lambda tag: f"{tag(chosen)} is the {ordinal} from the {side}.", steps
    )


def _scan(listed: Sequence[SceneObject], side: str, tag: Namer) -> list[str]:
    """Return steps that compare the best object so far with each next one, and name the better of the two."""
    steps, best = [], listed[0]
    for item in listed[1:]:
        word = side_of(best, item)
        better = best if word == side else item
        steps.append(f"{tag(best)}{tag(item)} {word}{tag(better)}")
        best = better
    return steps


def _draw_middle(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    listed = shuffled(graph.objects, rng)[:3]
    if len(listed) < 3 or not is_side_clear(graph, listed):
        return None
    first, chosen, last = sorted(listed, key=lambda item: item.image_xy[0])

    def steps(tag: Namer) -> str:
        return ", ".join([*_scan(listed, "left", tag), *_scan(listed, "right", tag), f"middle{tag(chosen)}"])

    return Draft("middle", {"list": listed}, chosen, lambda tag: f"{tag(chosen)} is between {tag(first)} and {tag(last)}.", steps)


def _draw_between(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    found = shuffled(graph.objects, rng)[: int(rng.integers(4, MAX_LISTED + 1))]
    if len(found) < 4 or not is_side_clear(graph, found):
        return None
    a, b, *listed = found

    def is_between(item: SceneObject) -> bool:
        return side_of(a, item) == side_of(item, b)

    inner = [item for item in listed if is_between(item)]
    listed = [item for item in listed if item not in inner[1:]]
    if not inner or len(listed) < 2:
        return None
    chosen = inner[0]

    def steps(tag: Namer) -> str:
        parts = [
            f"{tag(a)}{tag(item)} {side_of(a, item)}{tag(item)}{tag(b)} {side_of(item, b)} {'yes' if is_between(item) else 'no'}"
            for item in listed
        ]
        return ", ".join([*parts, f"between{tag(chosen)}"])

    return Draft("between", {"list": listed, "a": a, "b": b}, chosen, lambda tag: f"{tag(chosen)} is between {tag(a)} and {tag(b)}.", steps)


_NTH = "(?:second|third|2nd|3rd)"
#: "The distance between <mask> and <mask>" is no choice.
_NO_LENGTH = r"(?!.*\b(?:distance|gap|separation|span|spac(?:e|ing)|far|difference|heights?|met(?:er|re)s)\b)"
PLACE = ChoiceTask(
    name="place",
    title="the n-th from a side, or the middle one",
    cues=(
        Cue(8, rf"{_NTH}\b.*\bfrom (?:the )?(?:left|right)\b|(?:from|at|on|with) (?:the )?(?:left|right)\b.*\b{_NTH}\b"),
        Cue(8, r"^middle of\b|middle (?:place|position)\b"),
        Cue(8, rf"{_NTH} (?:\w+ ){{0,3}}from (?:the |my )?(?:left|right)\b|(?:from|at) (?:the |my )?(?:left|right)\b.{{0,160}}\b{_NTH}\b"),
        Cue(
            12,
            r"which\b.*\b(?:in the middle|in the cent(?:re|er)|the middle one|middle of)\b|(?:the middle one|in the middle)\b(?!.*\bhow\b)",
        ),
        Cue(12, r"between the (?:other two|two others|others)\b"),
    ),
    reply=_REPLY,
    guess="0",
    steps_pattern=rf".*\b(?:second|third|middle){STEP_REGION}",
    is_extra=True,
    **makers_of("place", "places", (0.6, _draw_nth), (0.4, _draw_middle)),
)
BETWEEN = ChoiceTask(
    name="between",
    title="which one is between two others",
    cues=(
        Cue(12, rf"^(?=(?:[^<]*<mask>){{4}}){_NO_LENGTH}.*\b(?:between\b[^<]*<mask>[^<]*\band\b|in between\b|between them\b)"),
        Cue(
            12,
            _NO_LENGTH
            + r"(?:which|what|who)\b.*\b(?:is|are|stands?|lies|sits|comes|appears?) (?:\w+ ){0,4}between (?:\w+ ){0,4}<mask> and\b",
        ),
        Cue(
            12, r"(?:in )?between (?:\w+ ){0,4}<mask> and (?:\w+ ){0,4}<mask> (?:which|what)\b.*<mask>(?! (?:is )?(?:taller|wider|bigger))"
        ),
    ),
    reply=_REPLY,
    guess="0",
    steps_pattern=rf".*\bbetween{STEP_REGION}",
    is_extra=True,
    **makers_of("between", "places", (1.0, _draw_between)),
)
