"""Choice questions: the region, of those that a question lists, that stands out, such as the leftmost or the nearest to another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject, Wording
from smolrgpt.tasks.base import STEP_REGION, Cue, CueRank, NormalizedAnswer, ReplySchema, Task
from smolrgpt.tasks.drawing import pick, shuffled
from smolrgpt.tasks.official import OfficialForm, fill_frame, synthetic_frames
from smolrgpt.tasks.question import Question, add_viewpoint_phrase, join_steps, region_tags
from smolrgpt.tasks.region_text import NUMBER_WORDS, REGION, find_regions, name_ordinals, region_tag
from smolrgpt.tasks.relations import compare_distances, compare_sides, find_extreme, find_nearest, find_shelf_and_buffer
from smolrgpt.tasks.wording import MAX_LISTED, Slot, ask_in_words

#: Properties that single out the chosen region; the region named just before "is ... <one of these>" is the answer.
_CHOICE = (
    r"(?:\w+most|(?:clos|near|farth|furth|tall|short|wid|broad|narrow|thinn|bigg|larg|small|high|low|b)est"
    r"|most distant|optimal|most|middle|answer|only)\b"
)
_SUBJECT_IS_CHOICE = re.compile(rf"{REGION.pattern}\s+(?:is|are|appears?|would be|makes?)\b(?! not)[^.\[<]*?\b{_CHOICE}", re.IGNORECASE)
_CHOICE_IS_OBJECT = re.compile(rf"\b{_CHOICE}[^.]*?\bis\b[^.\[<]*{REGION.pattern}", re.IGNORECASE)
#: "not [Region 0]", "nearer than the pallet [Region 2]".
_EXCLUDED = re.compile(
    rf"(?:\b(?:not|neither|nor|except|than|instead of|rather than)|n't)\s+(?:the\s+)?(?:(?!region)\w+\s+)?{REGION.pattern}", re.IGNORECASE
)
_DIGITS = re.compile(r"\d+")
#: The number words that the official script replaces, in its order.
_OFFICIAL_NUMBER_WORDS = tuple(NUMBER_WORDS)[:11]


@dataclass(frozen=True, eq=False, kw_only=True)
class ChoiceTask(Task):
    """A question whose answer is one of its regions."""

    names_region: bool = field(default=True, init=False)

    def field_pattern(self, num_regions: int) -> str | None:
        """Return the pattern of the region indices of the question; None where it has no region."""
        return f" ?(?:{'|'.join(map(str, range(num_regions)))})" if num_regions else None

    def _read_short(self, text: str) -> NormalizedAnswer:
        found = REGION.fullmatch(text) or re.fullmatch(r"\[?(\d{1,4})\]?", text)
        return str(int(found[1])) if found else None

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the region that a statement singles out, else the only one that the text names and does not exclude."""
        sentences = [_EXCLUDED.sub(" ", sentence) for sentence in name_ordinals("\n".join(sentences)).split("\n")]
        for pattern in (_SUBJECT_IS_CHOICE, _CHOICE_IS_OBJECT):
            for sentence in reversed(sentences):
                if found := pattern.search(sentence):
                    return str(int(found[1]))
        regions = set(find_regions(" ".join(sentences)))
        return str(regions.pop()) if len(regions) == 1 else None

    def parse(self, value: Any) -> str:
        """Return the first run of digits after number words became digits. Raises ValueError when there is none.

        Words are replaced one after the other as parts of the text, so "none" reads "n1": a quirk of the official script, which is kept.
        """
        text = str(value).lower()
        if text.isascii() and text.isdigit():
            return text
        for number, word in enumerate(_OFFICIAL_NUMBER_WORDS):
            text = text.replace(word, str(number))
        found = _DIGITS.search(text)
        if found is None:
            raise ValueError("no region index")
        return found[0]

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer, as text; None where ``value`` is valid."""
        in_order = isinstance(value, str) and re.fullmatch(r"\d{1,6}", value) is not None and int(value) < num_regions
        return None if in_order else f"a region number below {num_regions} as a string of digits"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that guessing one of each question's regions gets right."""
        return sum(1 / max(1, count) for count in num_regions) / len(num_regions) if num_regions else 0.0

    def format_answer(self, value: NormalizedAnswer, unit: str | None = None) -> str:
        """Return the chosen region as ``[Region k]``."""
        return region_tag(int(value)) if isinstance(value, str) and value.isdecimal() else super().format_answer(value)


# ---------------------------------------------------------------------------------------------------------------------- questions
#: Most candidates of an official question.
MAX_CANDIDATES = 13
_EMPTY_CLAIMS = (
    "The transporter {t} is not transporting any boxes. ",
    "Among all the transporters, the transporter {t} is empty. ",
    "At the moment, the transporter {t} is not loaded with any boxes. ",
)
_PICKUP_ANSWERS = (
    "The pallet {p} is the closest to the transporter {t}, so it is the most suitable choice to pick up.",
    "Given that pallet {p} is the closest to transporter {t}, it is the most logical choice for automated picking.",
    "Given that pallet {p} is the nearest to transporter {t}, it is the optimal choice to pick up.",
)


def ask_choice_form(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm) -> Question | None:
    """Ask an official form that chooses one of the regions it lists."""
    if form.relation == "extreme_of_three":
        return ask_extreme(graph, rng, form)
    return ask_pickup(graph, rng, form) if form.relation.startswith("pickup") else ask_buffer_by_shelf(graph, rng, form)


def ask_extreme(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm | None = None) -> Question | None:
    """Ask which of three objects is the leftmost or rightmost, in an official form, by default a random one."""
    pool = graph.of_kind("pallet") if rng.random() < 0.8 else graph.objects
    objects = shuffled(pool, rng)[:3]
    side = form.extreme() if form else pick(rng, ("leftmost", "rightmost"))
    chosen = find_extreme(graph, objects, side) if len(objects) == 3 else None
    if chosen is None:
        return None
    frame = form.frame if form else pick(rng, synthetic_frames("extreme_of_three"))
    frame = frame.replace("{side}", side).replace("{short}", side.removesuffix("most"))
    text, objects = fill_frame(frame, a=objects[0], b=objects[1], c=objects[2])
    answer = add_viewpoint_phrase(rng, f"The {chosen.name} {region_tags(objects, chosen)} is the {side} object.")
    return _choice_question(text, objects, answer, chosen, compare_sides(objects, objects, side))


def ask_pickup(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm | None = None) -> Question | None:
    """Ask which pallet a transporter, or the only empty one of several, should pick up, in an official form, by default a random one."""
    pallets, transporters = _draw_candidates(graph, rng)
    by_empty = form.relation == "pickup_by_empty" if form else len(transporters) > 1 and rng.random() < 0.6
    if by_empty and len(transporters) < 2:
        return None
    if not by_empty:
        transporters = transporters[:1]
    free = [item for item in transporters if item.loaded is False] if by_empty else transporters
    chosen = find_nearest(free[0], pallets) if len(free) == 1 and len(pallets) >= 3 else None
    if chosen is None:
        return None
    name = "pickup_by_empty" if by_empty else "pickup"
    if form is None and by_empty and rng.random() < 0.4:
        name = "pickup_by_empty_transporters_first"
    frame = form.frame if form else pick(rng, synthetic_frames(name))
    text, objects = fill_frame(frame, pallets=pallets, transporters=transporters, transporter=free)
    return _pickup_question(text, objects, free[0], chosen, by_empty, rng)


def ask_buffer_by_shelf(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm | None = None) -> Question | None:
    """Ask which buffer is the nearest to a shelf, mostly the left or right one, in an official form, by default a random one."""
    buffers, shelves = shuffled(graph.of_kind("buffer"), rng), shuffled(graph.of_kind("shelf"), rng)
    side = form.extreme().removesuffix("most") if form else pick(rng, ("left", "right"))
    shelf, chosen = find_shelf_and_buffer(graph, shelves, side, buffers)
    if shelf is None or chosen is None or (form is None and len(buffers) < 3):
        return None
    frame = form.frame if form else pick(rng, synthetic_frames("buffer_by_shelf_on_side")).replace("{side}", side)
    text, objects = fill_frame(frame, buffers=buffers, shelves=shelves, shelf=shelf)
    claim = f"The shelf {region_tags(objects, shelf)} is the shelf on the {side}. " if side else ""
    answer = f"{claim}The buffer region {region_tags(objects, chosen)} is the closest to the shelf {region_tags(objects, shelf)}."
    steps = compare_sides(objects, shelves, side + "most") if side else []
    return _choice_question(text, objects, answer, chosen, [*steps, *compare_distances(objects, buffers, shelf)])


def _choice_question(text: str, objects: list[SceneObject], answer: str, chosen: SceneObject, steps: list[str]) -> Question:
    return Question(text, objects, answer, str(objects.index(chosen)), MCQ.name, join_steps(steps))


def _draw_candidates(graph: SceneGraph, rng: np.random.Generator) -> tuple[list[SceneObject], list[SceneObject]]:
    """Return pallets and all transporters; sometimes fewer pallets, so that one scene has more than one such question."""
    pallets = shuffled(graph.of_kind("pallet"), rng)
    transporters = shuffled(graph.of_kind("transporter"), rng)
    if rng.random() < 0.5 and len(pallets) > 4:
        pallets = pallets[: int(rng.integers(4, len(pallets)))]
    return pallets[:MAX_CANDIDATES], transporters


def _pickup_question(
    text: str, objects: list[SceneObject], carrier: SceneObject, chosen: SceneObject, by_empty: bool, rng: np.random.Generator
) -> Question:
    names = {"p": region_tags(objects, chosen), "t": region_tags(objects, carrier)}
    claim = pick(rng, _EMPTY_CLAIMS).format(**names)
    answer = (claim if by_empty else "") + pick(rng, _PICKUP_ANSWERS).format(**names)
    transporters = [item for item in objects if item.kind == "transporter"] if by_empty else []
    loads = [f"{region_tags(objects, item)} {'loaded' if item.loaded else 'empty'}" for item in transporters]
    pallets = [item for item in objects if item.kind == "pallet"]
    return _choice_question(text, objects, answer, chosen, [*loads, *compare_distances(objects, pallets, carrier)])


def ask_extreme_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask which of several objects is the leftmost or rightmost, in plain words."""
    objects, side = _draw_listed(graph, rng), pick(rng, ("leftmost", "rightmost"))
    chosen = find_extreme(graph, objects, side)
    if chosen is None:
        return None
    slots: dict[str, Slot] = {"list": objects, "side": side, "short": side.removesuffix("most")}
    text, objects = ask_in_words("choice", "extremes", slots, rng, wording)
    return _choice_question(text, objects, f"{region_tags(objects, chosen)} is the {side}.", chosen, compare_sides(objects, objects, side))


def ask_nearest_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask which of several objects is the nearest to another, in plain words."""
    if not graph.objects:
        return None
    anchor = pick(rng, graph.objects)
    listed = [item for item in _draw_listed(graph, rng) if item is not anchor]
    chosen = find_nearest(anchor, listed)
    if chosen is None:
        return None
    text, objects = ask_in_words("choice", "nearest", {"list": listed, "a": anchor}, rng, wording)
    answer = f"{region_tags(objects, chosen)} is the closest to {region_tags(objects, anchor)}."
    return _choice_question(text, objects, answer, chosen, compare_distances(objects, listed, anchor))


def _draw_listed(graph: SceneGraph, rng: np.random.Generator) -> list[SceneObject]:
    """Draw two to eight pallets or, less often, any objects."""
    pool = graph.of_kind("pallet") if rng.random() < 0.6 else graph.objects
    return shuffled(pool, rng)[: int(rng.integers(2, MAX_LISTED + 1))]


MCQ = ChoiceTask(
    name="mcq",
    title="choice of a region",
    cues=(
        Cue(CueRank.EXPLICIT + 5, r"(?:standing|stand|sitting|sit|am) (?:at|by|on|beside)\b.{0,60}<mask>.*\b(?:nearest|closest) to me\b"),
        Cue(CueRank.INTERROGATIVE, r"which\b(?! distance)|what (?:object|pallet|buffer|transporter|shelf)\b"),
        Cue(CueRank.SUPERLATIVE, r"(?:left|right|front|rear|back|top|bottom) ?most\b|(?:near|clos|furth|farth|short|small)est\b"),
        Cue(CueRank.SUPERLATIVE, r"(?:most|least|fewest)\b|(?:far|very|outer|extreme) (?:left|right)\b|(?:left|right)(?: hand)? end\b"),
    ),
    reply=ReplySchema("region", int, "The number of the region that was chosen, as in [Region 3]."),
    guess="0",
    steps_pattern=rf".*\b(?:leftmost|rightmost|nearest) [^\[\]]+{STEP_REGION}",
    makers=((0.22, ask_extreme), (0.68, ask_pickup), (0.1, ask_buffer_by_shelf)),
    plain_makers=((0.5, ask_extreme_plainly), (0.5, ask_nearest_plainly)),
    form_maker=ask_choice_form,
)
