"""Distance questions: metres between the middles of two objects, 0 where one contains or touches the other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject, Wording
from smolrgpt.tasks.answer_text import bare_number, concluded_number, digits, stated_lengths
from smolrgpt.tasks.base import FIELD_SEPARATOR, STEP_REGION, Cue, CueRank, NormalizedAnswer, OtherTask, ReplySchema, Task
from smolrgpt.tasks.drawing import draw_several, pick, shuffled
from smolrgpt.tasks.official import OfficialForm, fill_frame, synthetic_frames
from smolrgpt.tasks.question import (
    MAX_MARKED,
    Question,
    add_viewpoint_phrase,
    brief_metres,
    capitalized,
    format_metres,
    join_steps,
    list_facts,
    mask_placeholders,
    region_tags,
)
from smolrgpt.tasks.region_text import region_tag, replace_regions
from smolrgpt.tasks.relations import compare_sides, distance_m, find_extreme
from smolrgpt.tasks.units import METRE, asked_unit, from_metres, write_length
from smolrgpt.tasks.wording import ask_in_words

#: An official distance is right between these multiples of the truth, both ends included; a truth of 0 needs exactly 0.
OFFICIAL_TOLERANCE = (0.90, 1.10)
#: The official relative error divides by g + this, so it is meaningless on rows whose truth is 0.
ERROR_EPSILON = 1e-8

#: Words of a statement of contact or containment, where the distance is 0.
_CONTACT = re.compile(r"\b(?:within|inside|touch\w*|overlap\w*|in contact|contains?)\b", re.IGNORECASE)
#: A length with its unit, as models state it, and the field at the end of an answer, which is a number of metres alone.
_STATED = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?) ?(?:m|met(?:er|re)s?)\b")
_BARE_FIELD = re.compile(rf"((?:^|{FIELD_SEPARATOR}) ?)(\d+(?:\.\d+)?)$")
_FROM_FIRST_LENGTH = re.compile(r"(?<!\[Region )(?<![\w.])\d.*", re.DOTALL)


@dataclass(frozen=True, eq=False, kw_only=True)
class LengthTask(Task):
    """A question whose answer is a length in metres.

    Attributes:
        tolerance: the multiples of the truth between which an answer is right, both ends included.
    """

    tolerance: tuple[float, float] = OFFICIAL_TOLERANCE
    guess: NormalizedAnswer = 0.0
    is_length: bool = field(default=True, init=False)

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of metres below 1,000 with at most two decimals."""
        return r" ?(?:0|[1-9][0-9]{0,2})(?:\.[0-9]{1,2})?"

    def _read_short(self, text: str) -> NormalizedAnswer:
        metres = bare_number(digits(text))
        return None if metres is None else _metres(metres)

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the last number with a unit of length, else 0 when the last statement is one of contact."""
        if stated := stated_lengths(digits(replace_regions(" ".join(sentences).lower(), region_tag))):
            return _metres(stated[-1])
        if _CONTACT.search(sentences[-1]):
            return 0
        metres = concluded_number(digits(replace_regions(sentences[-1].lower(), region_tag)))
        return None if metres is None else _metres(metres)

    def parse(self, value: Any) -> float:
        """Return metres. Raises ValueError for any value but a finite number."""
        return parse_number(value)

    def is_correct(self, truth: float, prediction: float) -> bool:
        """Return whether a prediction is within the tolerance of the truth."""
        return self.tolerance[0] * truth <= prediction <= self.tolerance[1] * truth

    def relative_error(self, truth: float, prediction: float) -> float:
        """Return |p - g| / (g + 1e-8), the official definition."""
        return abs(prediction - truth) / (truth + ERROR_EPSILON)

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer, as text, or None. Numbers as text are valid: the published set has them."""
        try:
            metres = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            metres = math.nan
        return None if 0 <= metres < math.inf else "metres, at least 0"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that the best constant length gets right."""
        return _best_constant(truths, *self.tolerance)

    def in_asked_unit(self, question: str, text: str, value: NormalizedAnswer) -> tuple[str, NormalizedAnswer, str | None]:
        """Return text and length in the unit that the question asks for; a length that stands alone in the text gets its unit."""
        if not isinstance(value, int | float):
            return text, value, None
        unit = asked_unit(question)
        if unit == METRE:
            return _BARE_FIELD.sub(rf"\1\2 {METRE}", text), value, METRE
        text = _STATED.sub(lambda found: write_length(float(found[1]), unit), text)
        text = _BARE_FIELD.sub(lambda found: found[1] + write_length(float(found[2]), unit), text)
        return text, *from_metres(value, unit)

    def without_unfinished_field(self, question: str, text: str) -> str:
        """Return the text up to the first length where the question asks for another unit than the model's."""
        return text if asked_unit(question) == METRE else _FROM_FIRST_LENGTH.sub("", text)

    def format_answer(self, value: NormalizedAnswer, unit: str | None = None) -> str:
        """Return the length with its unit."""
        return super().format_answer(value) if value is None else f"{value} {unit or METRE}"


def parse_number(value: Any) -> float:
    """Return ``value`` as a float. Raises ValueError for any value but a finite number."""
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise ValueError("not a number") from None
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _best_constant(values: Iterable[float], low: float, high: float) -> float:
    """Return the largest share of ``values`` that one guess gets right.

    A guess is right for a value v from ``low * v`` to ``high * v``; values are at least 0.
    """
    ordered = sorted(values)
    best, first = 0, 0
    for last, value in enumerate(ordered):  # the best guess can be slid up to the end of some value's band
        while ordered[first] * high < value * low * (1 - 1e-12):
            first += 1
        best = max(best, last - first + 1)
    return best / len(ordered) if ordered else 0.0


def _metres(value: float) -> int | float:
    """Return contact as the data sets write it: the int 0."""
    return value or 0


# ---------------------------------------------------------------------------------------------------------------------- questions
_PAIR_KINDS = (("pallet", "pallet"), ("pallet", "buffer"), ("pallet", "transporter"), ("transporter", "buffer"), ("pallet", "shelf"),
               ("buffer", "buffer"))  # fmt: skip
_PAIR_SHARES = (0.56, 0.16, 0.12, 0.08, 0.04, 0.04)
#: Of a pallet (or transporter) and the buffer it is in, this share is asked: zeros are about 7 % of the distances.
_ZERO_SHARE = 0.85
_DISTANCE_ANSWERS = (
    "the distance of {a} from {b} is {m} meters.",
    "{a} is {m} meters from {b}.",
    "{a} is {m} meters away from {b}.",
    "{a} and {b} are {m} meters apart.",
    "the distance from {a} to {b} is {m} meters.",
)
#: The two ends of a distance in the official forms: the slot, and the side (or the slot of the side) that picks one of several.
_ENDS = {
    "pallet_to_pallet": (("pallets", "leftmost"), ("pallets", "rightmost")),
    "pallet_to_buffer": (("pallets", "pallet_side"), ("buffers", "buffer_side")),
    "pallet_to_shelf": (("pallets", "side"), ("shelf", "")),
    "pallet_to_shelf_on_side": (("pallets", "pallet_side"), ("shelves", "shelf_side")),
    "transporter_to_buffer": (("transporter", ""), ("buffers", "side")),
}
_CLAIMS = {
    "pallets": "{tag} is the {side} pallet.",
    "buffers": "The buffer region {tag} is the {side} buffer region.",
    "shelves": "The shelf {tag} is the shelf on the {short}.",
}


def ask_distance(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm | None = None) -> Question | None:
    """Ask for the distance between two objects, in an official form, by default a random one."""
    pair = _draw_pair(graph, rng)
    if pair is None:
        return None
    frame = form.frame if form else pick(rng, synthetic_frames("pair"))
    text, objects = fill_frame(frame, a=pair[0], b=pair[1])
    answer = _state_distance(objects, objects, rng)
    return Question(text, objects, answer, _metres(distance_m(*objects)), DISTANCE.name, region_tags(objects, *objects))


def ask_transporter_to_buffer(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask for the distance from a transporter to the buffer on a side, in an official sentence."""
    transporters, buffers = shuffled(graph.of_kind("transporter"), rng), shuffled(graph.of_kind("buffer"), rng)
    side = pick(rng, ("leftmost", "rightmost", "middle"))
    buffer = find_extreme(graph, buffers, side)
    if not transporters or buffer is None:
        return None
    frames = synthetic_frames("transporter_to_buffer" if rng.random() < 0.8 else "buffer_to_transporter")
    text, objects = fill_frame(pick(rng, frames).replace("{side}", side), transporter=transporters[0], buffers=buffers)
    claim = add_viewpoint_phrase(rng, f"The buffer region {region_tags(objects, buffer)} is the {side} buffer region.")
    return _chain(text, objects, claim, (transporters[0], buffer), compare_sides(objects, buffers, side), rng)


def ask_pallet_to_buffer(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask for the distance from the pallet on a side to the buffer on a side, in an official sentence."""
    pallets, buffers = shuffled(graph.of_kind("pallet"), rng), shuffled(graph.of_kind("buffer"), rng)
    pallet_side, buffer_side = (pick(rng, ("leftmost", "rightmost")) for _ in range(2))
    pallet, buffer = find_extreme(graph, pallets, pallet_side), find_extreme(graph, buffers, buffer_side)
    if pallet is None or buffer is None or (distance_m(pallet, buffer) == 0 and rng.random() > 0.5):
        return None
    frame = pick(rng, synthetic_frames("pallet_to_buffer")).replace("{pallet_side}", pallet_side)
    text, objects = fill_frame(frame.replace("{buffer_side}", buffer_side), buffers=buffers, pallets=pallets)
    claim = add_viewpoint_phrase(rng, f"{region_tags(objects, pallet)} is the {pallet_side} pallet.")
    claim += " " + add_viewpoint_phrase(rng, f"{region_tags(objects, buffer)} is the {buffer_side} buffer region.")
    steps = [*compare_sides(objects, pallets, pallet_side), *compare_sides(objects, buffers, buffer_side)]
    return _chain(text, objects, claim, (pallet, buffer), steps, rng)


def ask_pallet_to_pallet(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask for the distance between the leftmost and the rightmost pallet, in an official sentence."""
    pallets = shuffled(graph.of_kind("pallet"), rng)
    left, right = find_extreme(graph, pallets, "leftmost"), find_extreme(graph, pallets, "rightmost")
    if left is None or right is None or len(pallets) < 3:
        return None
    text, _ = fill_frame(pick(rng, synthetic_frames("pallet_to_pallet")), pallets=pallets)
    claim = f"{region_tags(pallets, left)} is the leftmost pallet, and {region_tags(pallets, right)} is the rightmost pallet."
    claim = add_viewpoint_phrase(rng, claim)
    steps = [*compare_sides(pallets, pallets, "leftmost"), *compare_sides(pallets, pallets, "rightmost")]
    return _chain(text, pallets, claim, (left, right), steps, rng)


def ask_pallet_to_shelf(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask for the distance from the pallet on a side to a shelf, in an official sentence."""
    pallets, shelves = shuffled(graph.of_kind("pallet"), rng), shuffled(graph.of_kind("shelf"), rng)
    side = pick(rng, ("leftmost", "rightmost"))
    pallet = find_extreme(graph, pallets, side)
    if pallet is None or not shelves:
        return None
    frame = pick(rng, synthetic_frames("pallet_to_shelf")).replace("{side}", side)
    text, objects = fill_frame(frame, pallets=pallets, shelf=shelves[0])
    claim = add_viewpoint_phrase(rng, f"{region_tags(objects, pallet)} is the {side} pallet.")
    return _chain(text, objects, claim, (pallet, shelves[0]), compare_sides(objects, pallets, side), rng)


def ask_distance_form(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm) -> Question | None:
    """Ask an official form about the distance between two objects, each given or found by its side."""
    if form.relation == "pair":
        return ask_distance(graph, rng, form)
    slots = {f"{kind}s": shuffled(graph.of_kind(kind), rng) for kind in ("pallet", "buffer", "transporter")}
    slots["shelves"] = shuffled(graph.of_kind("shelf"), rng)
    slots |= {"shelf": slots["shelves"][:1], "transporter": slots["transporters"][:1]}
    ends = [_find_end(graph, slots[slot], form.extreme(side) if side in form.sides else side) for slot, side in _ENDS[form.relation]]
    first, second = (item for item, _ in ends)
    text, objects = fill_frame(form.frame, **slots)
    if first is None or second is None or len(objects) > MAX_MARKED or ("{shelves}" in form.frame and len(slots["shelves"]) != 2):
        return None
    claims, steps = [], []
    for (slot, _), (item, side) in zip(_ENDS[form.relation], ends, strict=True):
        if side and item is not None:
            sentence = _CLAIMS[slot].format(tag=region_tags(objects, item), side=side, short=side.removesuffix("most"))
            claims.append(add_viewpoint_phrase(rng, sentence))
            steps += compare_sides(objects, slots[slot], side)
    return _chain(text, objects, " ".join(claims), (first, second), steps, rng)


def _find_end(graph: SceneGraph, objects: list[SceneObject], side: str) -> tuple[SceneObject | None, str]:
    """Return the object on the side, or the only one where no side is given, with the side."""
    return (find_extreme(graph, objects, side) if side else next(iter(objects), None)), side


def _draw_pair(graph: SceneGraph, rng: np.random.Generator) -> list[SceneObject] | None:
    """Draw two objects of kinds that official questions pair; most pairs of an object and what it stands in are kept."""
    first_kind, second_kind = _PAIR_KINDS[int(rng.choice(len(_PAIR_KINDS), p=_PAIR_SHARES))]
    first = shuffled(graph.of_kind(first_kind), rng)
    second = [item for item in shuffled(graph.of_kind(second_kind), rng) if not first or item is not first[0]]
    if not first or not second:
        return None
    pair = shuffled([first[0], second[0]], rng) if rng.random() < 0.3 else [first[0], second[0]]
    return None if distance_m(*pair) == 0 and rng.random() > _ZERO_SHARE else pair


def _chain(
    text: str,
    objects: list[SceneObject],
    claim: str,
    ends: tuple[SceneObject, SceneObject],
    steps: list[str],
    rng: np.random.Generator,
) -> Question:
    """Word the answer to a question whose ends have to be found first; claim and steps name them."""
    answer = f"{claim} {_state_distance(objects, ends, rng)}"
    return Question(text, objects, answer, _metres(distance_m(*ends)), DISTANCE.name, join_steps(steps, [region_tags(objects, *ends)]))


def _state_distance(objects: list[SceneObject], ends: Sequence[SceneObject], rng: np.random.Generator) -> str:
    first, second = ends
    metres = distance_m(first, second)
    if metres == 0:
        first, second = (second, first) if first.kind == "buffer" else (first, second)
        verb = pick(rng, ("is within", "is located within", "is within"))
        return f"The {first.name} {region_tags(objects, first)} {verb} the {second.name} {region_tags(objects, second)}."
    a, b = (f"the {item.name} {region_tags(objects, item)}" for item in (first, second))
    return capitalized(pick(rng, _DISTANCE_ANSWERS).format(a=a, b=b, m=format_metres(metres)))


def ask_distance_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask for the distance between two objects, in plain words."""
    pair = shuffled(graph.objects, rng)[:2]
    if len(pair) < 2 or (distance_m(*pair) == 0 and rng.random() < 0.5):
        return None
    text, objects = ask_in_words("distance", "distances", dict(zip("ab", pair, strict=True)), rng, wording)
    metres = distance_m(*pair)
    answer = f"The distance is {format_metres(metres)} meters." if metres else "One is within the other."
    return Question(text, objects, answer, _metres(metres), DISTANCE.name, region_tags(objects, *objects))


def survey_distances(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask for the distances of several objects from an anchor."""
    found = draw_several(graph.of_kind("pallet") + graph.of_kind("buffer") + graph.of_kind("transporter"), rng)
    if len(found) < 2:
        return None
    anchor, *objects = found
    text = pick(rng, ("How far are {m} from the {a} <mask>?", "What are the distances from {m} to the {a} <mask>?"))
    text = text.format(m=mask_placeholders(len(objects)), a=anchor.name)
    values = [brief_metres(distance_m(item, anchor)) for item in objects]
    sentence = f"{{r}} is {{v}} meters from {region_tag(len(objects))}."
    return list_facts(DISTANCES.name, text, [*objects, anchor], values, sentence)


DISTANCE = LengthTask(
    name="distance",
    title="distance",
    cues=(
        Cue(CueRank.INTERROGATIVE, r"how (?:far|distant|close|near)(?: away| apart)? (?:is|are)\b|how much (?:distance|space)\b"),
        Cue(CueRank.INTERROGATIVE, r"how long is the way\b"),
        Cue(CueRank.NOUN, r"(?<!st )distance (?:measurement )?(?:between|from|of|to)\b"),
        Cue(CueRank.DIMENSION - 5, r"how long\b.{0,80}? (?:from|between)\b.{0,80}? (?:to|and)\b"),
        Cue(CueRank.HINT, r"distan(?:ce|t)\b|how (?:far|close|near)\b|apart\b|gap\b|separat\w+|span\b|spac(?:e|ing)\b"),
        Cue(CueRank.HINT, r"(?:centi|milli)?met(?:er|re)s\b|(?<!')m\b|feet\b|inches\b"),
    ),
    reply=ReplySchema("metres", float, "The distance in metres."),
    steps_pattern=f"(?:.*, )?{STEP_REGION}{STEP_REGION}",
    makers=(
        (0.6, ask_distance),
        (0.12, ask_transporter_to_buffer),
        (0.14, ask_pallet_to_buffer),
        (0.1, ask_pallet_to_pallet),
        (0.04, ask_pallet_to_shelf),
    ),
    plain_makers=((1.0, ask_distance_plainly),),
    form_maker=ask_distance_form,
)
DISTANCES = OtherTask(name="distances", title="distances, of several objects", makers=((1.0, survey_distances),))
