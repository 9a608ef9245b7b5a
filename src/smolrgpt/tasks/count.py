"""Count questions: the number of listed objects that meet a condition, such as standing in a buffer region."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject, Wording
from smolrgpt.tasks.answer_text import without_lengths
from smolrgpt.tasks.base import STEP_REGION, Cue, CueRank, NormalizedAnswer, OtherTask, ReplySchema, Task
from smolrgpt.tasks.distance import parse_number
from smolrgpt.tasks.drawing import draw_several, pick, shuffled
from smolrgpt.tasks.official import OfficialForm, fill_frame, synthetic_frames
from smolrgpt.tasks.question import MAX_MARKED, Question, add_viewpoint_phrase, join_steps, list_facts, mask_placeholders, region_tags
from smolrgpt.tasks.region_text import MARKED_REGION, REGION, number_word, region_tag, words_to_digits
from smolrgpt.tasks.relations import compare_distances, compare_sides, find_extreme, find_shelf_and_buffer, stands_in
from smolrgpt.tasks.wording import MAX_LISTED, ask_in_words

#: Words that state a count, as digits.
_WORDS = {"none": "0", "neither": "0", "nothing": "0", "both": "2", "a dozen": "12", "a couple": "2", "a pair": "2", "a single": "1"}
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b(?! (?:else|but|more|besides|other)\b)")
#: "One" as a pronoun: "the second one", "no one", "which one".
_PRONOUN = re.compile(
    r"\b(?:the|this|that|which|each|every|any|another|other|no|some|first|last|next|left|right|middle|\w+(?:st|nd|rd|th|er)) (?:one|1)\b"
)
#: A number that counts: no part of a decimal, of a percentage, or of an ordinal.
_COUNT = r"(?<![\w.,/-])(\d{1,9})(?![\w%/]|[.,]\d| ?%| percent)"
_COUNTED = re.compile(rf"(?:{_COUNT}|\bno)(?: \w+){{0,2}}? (?:pallets?|objects?|boxes|transporters?)\b")
_TOTAL = re.compile(r"\b(?:out )?of (?:all |the |these |those )*\d{1,9}\b")
_ALTERNATIVES = re.compile(r"\b\d{1,9} ?(?:-|/|to|or) ?\d{1,9}\b")
_LISTED = re.compile(rf"pallets?\s+((?:(?:,|and)?\s*{REGION.pattern}\s*)+)", re.IGNORECASE)
_LENGTH_UNIT = r"(?:(?:milli|centi|kilo)?met(?:er|re)s|(?<!')m|cms?|mms?|feet|foot|ft|inches|inch|yards?)\b"


@dataclass(frozen=True, eq=False, kw_only=True)
class CountTask(Task):
    """A question whose answer is a whole number."""

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of a number from 0 to 99."""
        return r" ?(?:[0-9]|[1-9][0-9])"

    def _read_short(self, text: str) -> NormalizedAnswer:
        text = words_to_digits(_WORDS.get(text, text))
        return int(float(text)) if re.fullmatch(r"\d{1,9}(?:\.0+)?", text) else None

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the number that the conclusion states, else how many pallets are listed."""
        text = _PRONOUN.sub(" ", MARKED_REGION.sub(" ", sentences[-1].lower()))
        text = words_to_digits(_WORD.sub(lambda found: _WORDS[found[0]], REGION.sub(" ", text)))
        text = _TOTAL.sub("", without_lengths(text))
        if _ALTERNATIVES.search(text):
            return None
        if stated := _COUNTED.findall(text) or re.findall(_COUNT, text):
            return int(stated[-1] or 0)
        if (listed_before := _COUNTED.findall(words_to_digits(" ".join(sentences[:-1]).lower()))) and not re.search(r"\w", text):
            return int(listed_before[-1] or 0)
        for sentence in reversed(sentences):
            if listed := _LISTED.search(sentence):
                return len(REGION.findall(listed[1]))
        return None

    def parse(self, value: Any) -> int:
        """Return ``int(float(value))``: "3.7" is 3, as in the official script. Raises ValueError for any value but a finite number."""
        return int(parse_number(value))

    def relative_error(self, truth: int, prediction: int) -> float:
        """Return |p - g| / max(1, g), the official definition."""
        return abs(prediction - truth) / max(1, truth)

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer, as text; None where ``value`` is valid."""
        in_order = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if in_order else "an integer, at least 0"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that the commonest count gets right."""
        return Counter(truths).most_common(1)[0][1] / len(truths) if truths else 0.0


# ---------------------------------------------------------------------------------------------------------------------- questions
#: Share of the questions with the answers 1, 2, 3 and 4 that is asked; measured, so that each is about a quarter.
_COUNT_SHARES = (0.45, 0.4, 0.5, 1.0)
_NEAREST_CLAIMS = ("buffer region {b} is the closest to the shelf {s}", "buffer area {b} is nearest to the shelf {s}")


def ask_count(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask how many pallets the leftmost, rightmost or middle buffer holds, in an official sentence."""
    if not graph.has_plane:
        return None
    buffers, pallets = shuffled(graph.containers, rng), shuffled(graph.of_kind("pallet"), rng)
    side = pick(rng, ("leftmost", "rightmost", "middle"))
    buffer = find_extreme(graph, buffers, side)
    if buffer is None:
        return None
    pallets, inside = _listed_pallets(pallets, buffer, rng)
    if not _keep_count(len(inside), rng):
        return None
    short = side.removesuffix("most")
    where = pick(rng, (f"{side} buffer region", f"{side} buffer area", f"{short} buffer zone", f"{side} buffer"))
    frames = synthetic_frames("count_pallets_first" if rng.random() < 0.2 else "count")
    text, objects = fill_frame(pick(rng, frames).replace("{where}", where), buffers=buffers, pallets=pallets)
    return _count_question(text, objects, buffer, None, side, rng)


def ask_count_by_shelf(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask how many pallets the buffer nearest to the left or right shelf holds, in an official sentence."""
    if not graph.has_plane:
        return None
    buffers, pallets = shuffled(graph.of_kind("buffer"), rng), shuffled(graph.of_kind("pallet"), rng)
    shelves, side = shuffled(graph.of_kind("shelf"), rng), pick(rng, ("left", "right"))
    shelf, buffer = find_shelf_and_buffer(graph, shelves, side, buffers)
    if shelf is None or buffer is None:
        return None
    pallets, inside = _listed_pallets(pallets, buffer, rng)
    if not _keep_count(len(inside), rng) or len(buffers) + len(pallets) + len(shelves) > MAX_MARKED:
        return None
    where = f"buffer region closest to the shelf on the {side} among {{shelves}}"
    frame = pick(rng, synthetic_frames("count")).replace("{where}", where)
    text, objects = fill_frame(frame, buffers=buffers, pallets=pallets, shelves=shelves)
    return _count_question(text, objects, buffer, shelf, side, rng)


def ask_count_form(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm) -> Question | None:
    """Ask an official form about the pallets in the buffer that is on a side, or nearest to a shelf (on a side)."""
    if not graph.has_plane:
        return None
    buffers, pallets = shuffled(graph.of_kind("buffer"), rng), shuffled(graph.of_kind("pallet"), rng)
    shelves = shuffled(graph.of_kind("shelf"), rng)
    shelf, side = None, form.extreme()
    if form.relation == "buffer_on_side":
        buffer = find_extreme(graph, buffers, side)
    else:
        side = side.removesuffix("most")
        shelf, buffer = find_shelf_and_buffer(graph, shelves, side, buffers)
    if buffer is None:
        return None
    pallets, inside = _listed_pallets(pallets, buffer, rng)
    text, objects = fill_frame(form.frame, buffers=buffers, pallets=pallets, shelves=shelves, shelf=shelves[:1])
    if not 1 <= len(inside) <= 4 or len(objects) > MAX_MARKED:
        return None
    return _count_question(text, objects, buffer, shelf, side, rng)


def _listed_pallets(
    pallets: list[SceneObject], buffer: SceneObject, rng: np.random.Generator
) -> tuple[list[SceneObject], list[SceneObject]]:
    """Return the pallets that a question lists, and those of them in the buffer.

    At random, some that stand elsewhere are left out, so that the length of the list hardly predicts the answer.
    """
    inside = [item for item in pallets if stands_in(item, buffer)]
    outside = [item for item in pallets if not stands_in(item, buffer)]
    if rng.random() < 0.5 and len(outside) > 1:
        outside = outside[: int(rng.integers(1, len(outside)))]
    return shuffled([*inside, *outside], rng), inside


def _keep_count(inside: int, rng: np.random.Generator) -> bool:
    """Even out how often 1 to 4 are the answer: high counts are rarer, since pallets hide one another or leave the frame."""
    return 1 <= inside <= 4 and bool(rng.random() < _COUNT_SHARES[inside - 1])


def _explain_buffer(
    objects: list[SceneObject], buffer: SceneObject, shelf: SceneObject | None, side: str, rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Return the sentences that name the buffer in question, and the steps to it; see ``_count_question``."""
    buffers, shelves = ([item for item in objects if item.kind == kind] for kind in ("buffer", "shelf"))
    if shelf is None:
        among = pick(rng, ("", " among all the buffer regions"))
        claim = add_viewpoint_phrase(rng, f"The buffer region {region_tags(objects, buffer)} is the {side} buffer region{among}.")
        return claim, compare_sides(objects, buffers, side)
    claim = f"The shelf {region_tags(objects, shelf)} is the shelf on the {side}. " if side else ""
    claim += f"The {pick(rng, _NEAREST_CLAIMS).format(b=region_tags(objects, buffer), s=region_tags(objects, shelf))}."
    steps = compare_sides(objects, shelves, side + "most") if side else []
    return claim, [*steps, *compare_distances(objects, buffers, shelf)]


def _count_question(
    text: str, objects: list[SceneObject], buffer: SceneObject, shelf: SceneObject | None, side: str, rng: np.random.Generator
) -> Question:
    """Word the answer and the steps.

    Args:
        text: the question.
        objects: the objects in the order of their masks.
        buffer: the buffer that the count is about.
        shelf: the shelf that the buffer is the nearest to; None where the buffer is given by its side.
        side: of the shelf, "left" or "right", or empty where only one is marked; of the buffer, "leftmost", "rightmost" or "middle".
        rng: draws the wording.
    """
    claim, steps = _explain_buffer(objects, buffer, shelf, side, rng)
    pallets = [item for item in objects if item.kind == "pallet"]
    inside = [item for item in pallets if stands_in(item, buffer)]
    count, tag = len(inside), region_tags(objects, buffer)
    be, plural = ("are", "s") if count > 1 else ("is", "")
    names = " ".join([f"pallet{plural}", *(region_tags(objects, item) for item in inside)])
    listing = pick(
        rng,
        (
            f"The {names} {be} located in the buffer region {tag}.",
            f"The buffer region {tag} contains {names}.",
            f"You can find {names} inside the buffer region {tag}.",
            f"I see {names} in the buffer region {tag}.",
        ),
    )
    amount = f"{number_word(count)} pallet{plural}"
    end = pick(
        rng,
        (
            f"Therefore, the buffer area {tag} has {amount}.",
            f"Hence, there {be} {amount} in the buffer area {tag}.",
            f"Therefore, the buffer region {tag} holds a total of {amount}.",
            f"It means that there {be} {amount} in the buffer zone {tag}.",
        ),
    )
    derivation = join_steps(steps, _count_steps(objects, pallets, buffer))
    return Question(text, objects, f"{claim} {listing} {end}", count, COUNT.name, derivation, max_same_fact=4)


def _count_steps(objects: list[SceneObject], pallets: list[SceneObject], buffer: SceneObject) -> list[str]:
    """Return a step per pallet: how many stand in the buffer up to it."""
    counts = itertools.accumulate(int(stands_in(item, buffer)) for item in pallets)
    return [f"{region_tags(objects, item, buffer)} {count}" for item, count in zip(pallets, counts, strict=True)]


def ask_count_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask how many of the listed pallets a buffer holds, in plain words."""
    if not graph.has_plane:
        return None
    buffers = shuffled(graph.containers, rng)
    pallets = shuffled(graph.of_kind("pallet"), rng)[: int(rng.integers(2, MAX_LISTED + 1))]
    if not buffers or len(pallets) < 2:
        return None
    buffer = buffers[0]
    inside = sum(stands_in(item, buffer) for item in pallets)
    if inside == 0 and rng.random() > 0.3:
        return None
    text, objects = ask_in_words("count", "counts", {"list": pallets, "b": buffer}, rng, wording)
    answer = f"There are {number_word(inside)} pallets in {region_tags(objects, buffer)}."
    steps = join_steps(_count_steps(objects, pallets, buffer))
    return Question(text, objects, answer, inside, COUNT.name, steps, max_same_fact=4)


def ask_inside(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask whether an object stands in a buffer: the step that a count is made of."""
    if not graph.has_plane:
        return None
    movable, buffers = graph.of_kind("pallet") + graph.of_kind("transporter"), graph.containers
    if not movable or not buffers:
        return None
    buffer = pick(rng, buffers)
    wanted = rng.random() < 0.5
    movable = [item for item in movable if stands_in(item, buffer) == wanted]
    if not movable:
        return None
    item = pick(rng, movable)
    text = pick(rng, ("Is the {n} <mask> inside the buffer region <mask>?", "Does the {n} <mask> stand in the buffer region <mask>?"))
    answer = f"The {item.name} [Region 0] is {'inside' if wanted else 'outside'} the buffer region [Region 1]."
    return Question(text.format(n=item.name), [item, buffer], answer, "in" if wanted else "out", INSIDE.name, "[Region 0][Region 1]")


def survey_insides(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask which of several objects stand in a buffer."""
    if not graph.has_plane:
        return None
    objects, buffers = draw_several(graph.of_kind("pallet") + graph.of_kind("transporter"), rng), graph.containers
    if not objects or not buffers:
        return None
    buffer = pick(rng, buffers)
    text = pick(rng, ("Which of {m} are inside the buffer region <mask>?", "Are {m} in or out of the buffer region <mask>?"))
    values = ["in" if stands_in(item, buffer) else "out" for item in objects]
    sentence = f"{{r}} is {{v}} of the buffer region {region_tag(len(objects))}."
    return list_facts(INSIDES.name, text.format(m=mask_placeholders(len(objects))), [*objects, buffer], values, sentence)


COUNT = CountTask(
    name="count",
    title="count",
    cues=(
        Cue(CueRank.EXPLICIT + 2, rf"how many\b(?! {_LENGTH_UNIT})|(?:number|amount|quantity)\b(?! of {_LENGTH_UNIT})|(?:total|count)\b"),
    ),
    reply=ReplySchema("count", int, "How many objects were counted."),
    guess=1,
    steps_pattern=rf"(?:.*, )?{STEP_REGION}{STEP_REGION} \d+",
    makers=((0.85, ask_count), (0.15, ask_count_by_shelf)),
    plain_makers=((1.0, ask_count_plainly),),
    form_maker=ask_count_form,
)
INSIDES = OtherTask(name="insides", title="what is inside, of several objects", makers=((1.0, survey_insides),))
INSIDE = OtherTask(name="inside", title="inside or outside", makers=((1.0, ask_inside),))
