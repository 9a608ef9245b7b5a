"""Left or right: on which side the first region is of the second, as the image shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject, Wording
from smolrgpt.tasks.base import STEP_REGION, Cue, CueRank, NormalizedAnswer, OtherTask, ReplySchema, Task
from smolrgpt.tasks.drawing import draw_several, pick, shuffled
from smolrgpt.tasks.official import OfficialForm, fill_frame, synthetic_frames
from smolrgpt.tasks.question import Question, add_viewpoint_phrase, list_facts, mask_placeholders, region_tags
from smolrgpt.tasks.region_text import REGION, region_tag
from smolrgpt.tasks.relations import is_side_clear, side_of
from smolrgpt.tasks.wording import ask_in_words

OPPOSITE = {"left": "right", "right": "left"}

#: The official script's spellings of a side.
_SPELLINGS = {spelling.format(side): side for side in OPPOSITE for spelling in ("{}", "{} side", "{}-hand", "{} hand")}
_SPELLINGS |= {"l": "left", "r": "right"}
_SIDE = re.compile(r"(?<!that's )(?<!that is )(?<!you're )(?<!all )\b(left|right)\b(?! (?:now|away|next|behind|here|there|answer)\b)")
_NEGATED = re.compile(r"(?:\bnot|cannot|n't|\bnever|\brather than|\binstead of)\b[^.,;:]*$")
_VERDICT = re.compile(r"(?:(yes|yeah|yep|true|correct)|(no|nope|false|incorrect))\b(?=\s*(?:$|[,.!:;\"')-]|it\b|that\b|this\b|the\b|\[))")
#: What names one of two regions, or the first or second of them.
_ENTITY = re.compile(rf"\b(?P<first>first|former)\b|\b(?P<second>second|latter)\b|{REGION.pattern}", re.IGNORECASE)
_REFERENCE = re.compile(r"\b(?:of|from|to|than)\b")


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
        for sentence in map(str.lower, reversed(sentences)):
            sides = {_side_of_first(found, sentence) for found in _SIDE.finditer(sentence)}
            if len(sides) == 1:
                return sides.pop()
        asked = set(_SIDE.findall(question.lower()))
        verdict = _VERDICT.match(sentences[0].lower())
        if verdict is None or len(asked) != 1:
            return None
        (side,) = asked
        return side if verdict[1] else OPPOSITE[side]

    def parse(self, value: Any) -> str:
        """Return 'left' or 'right' for the official spellings. Raises ValueError for any other text."""
        side = _SPELLINGS.get(str(value).lower().strip())
        if side is None:
            raise ValueError("neither 'left' nor 'right'")
        return side

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer, as text; None where ``value`` is valid."""
        return None if value in OPPOSITE else "'left' or 'right'"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that guessing one of the two gets right."""
        return 0.5


def is_mirrored(mentions: Sequence[int]) -> bool:
    """Return whether a statement gives the side of the second region relative to the first; mentions: its region indices, in order."""
    return len(mentions) == 2 and mentions[0] > mentions[1]


def _side_of_first(side: re.Match[str], sentence: str) -> str:
    """Return the side of the first region that a statement with this word gives: mirrored, if it is about the second one, or negated."""
    is_negated = _NEGATED.search(sentence[: side.start()]) is not None
    return OPPOSITE[side[1]] if is_negated != _is_about_second(side, sentence) else side[1]


def _is_about_second(side: re.Match[str], sentence: str) -> bool:
    """Return whether a statement with this word is about the second region: the last one named before, else the one that is compared."""
    found = list(_ENTITY.finditer(sentence))
    named = sorted({int(entity[3]) for entity in found if entity[3]})
    second = named[-1] if len(named) > 1 else 1
    numbers = [1 if entity["second"] or (entity[3] and int(entity[3]) == second) else 0 for entity in found]
    before = [number for entity, number in zip(found, numbers, strict=True) if entity.end() <= side.start()]
    if before or not found:
        return bool(before and before[-1])
    return numbers[0] == (0 if _REFERENCE.search(sentence[side.end() : found[0].start()]) else 1)


# ---------------------------------------------------------------------------------------------------------------------- questions
_SURVEY_QUESTIONS = (
    "Are {m} to the left or right of the {a} <mask>?",
    "On which side of the {a} in the last mask are {m}? It is <mask>.",
)


def ask_side(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm | None = None) -> Question | None:
    """Ask on which side of the second object the first one is, in an official form, by default a random one."""
    pair = _draw_pair(graph, rng)
    if pair is None:
        return None
    frame = form.frame if form else pick(rng, synthetic_frames("side")).replace("{side}", pick(rng, ("left", "right")))
    text, objects = fill_frame(frame, a=pair[0], b=pair[1])
    side = side_of(*objects)
    relation = pick(rng, ("is to the {s} of", "is on the {s} of", "is situated on the {s} of")).format(s=side)
    answer = add_viewpoint_phrase(rng, f"The {objects[0].name} [Region 0] {relation} the {objects[1].name} [Region 1].")
    return Question(text, objects, answer, side, LEFT_RIGHT.name, region_tags(objects, *objects))


def _draw_pair(graph: SceneGraph, rng: np.random.Generator) -> list[SceneObject] | None:
    """Draw two objects of one kind or, less often, any two; None where their sides are not clear."""
    kinds = ("pallet", "pallet", "pallet", "buffer", "transporter", "shelf")
    pools = [pool for pool in (graph.of_kind(kind) for kind in kinds) if pool]
    if not pools:
        return None
    pool = pick(rng, pools) if rng.random() < 0.7 else graph.objects
    pair = shuffled(pool, rng)[:2]
    return pair if len(pair) == 2 and is_side_clear(graph, pair) else None


def ask_side_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask on which side of the second object the first one is, in plain words."""
    pair = shuffled(graph.objects, rng)[:2]
    if len(pair) < 2 or not is_side_clear(graph, pair):
        return None
    a, b = pair
    text, objects = ask_in_words("side", "sides", {"a": a, "b": b}, rng, wording)
    side = side_of(a, b)
    answer = f"{region_tags(objects, a)} is to the {side} of {region_tags(objects, b)}."
    return Question(text, objects, answer, side, LEFT_RIGHT.name, region_tags(objects, a, b))


def survey_sides(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask of several objects on which side of an anchor each one is."""
    found = draw_several(graph.objects, rng)
    if not found:
        return None
    anchor = found[0]
    objects = [item for item in found[1:] if is_side_clear(graph, [item, anchor])]
    if not objects:
        return None
    text = pick(rng, _SURVEY_QUESTIONS).format(m=mask_placeholders(len(objects)), a=anchor.name)
    values = [side_of(item, anchor) for item in objects]
    return list_facts(SIDES.name, text, [*objects, anchor], values, f"{{r}} is to the {{v}} of {region_tag(len(objects))}.")


LEFT_RIGHT = SideTask(
    name="left_right",
    title="left or right",
    cues=(
        Cue(CueRank.EXPLICIT, r"(?:which|what) (?:hand )?(?:side|way|direction)\b|leftwards\b"),
        Cue(CueRank.EXPLICIT, r"(?:left|right)\b.{0,80}\bor\b.{0,80}\b(?:left|right)\b"),  # not .*, which long questions make slow
        Cue(CueRank.HINT, r"lateral(?:ly)?\b|sideways\b"),
        Cue(CueRank.WEAK, r"(?:left|right)\b"),
    ),
    reply=ReplySchema("side", Literal["left", "right"], "On which side the first region is."),
    guess="left",
    steps_pattern=f"{STEP_REGION}{STEP_REGION}",
    makers=((1.0, ask_side),),
    plain_makers=((1.0, ask_side_plainly),),
    form_maker=ask_side,
)
SIDES = OtherTask(name="sides", title="sides, of several objects", makers=((1.0, survey_sides),))
