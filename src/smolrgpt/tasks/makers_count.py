"""Questions about how many objects stand in a place, and whether one does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.drawing import draw_several, pick, shuffled
from smolrgpt.tasks.official import OfficialForm, fill_form
from smolrgpt.tasks.question import MAX_MARKED, Question, from_viewpoint, join_steps, list_facts, masks, tags
from smolrgpt.tasks.region_text import number_word, region_tag
from smolrgpt.tasks.relations import compare_distances, compare_sides, find_extreme, find_nearest, find_shelf_and_buffer, stands_in
from smolrgpt.tasks.wording import MAX_LISTED, Wording, as_typed, list_masks, load_wordings

#: Share of the questions with the answers 1, 2, 3 and 4 that is asked; measured, so that each is about a quarter.
_COUNT_SHARES = (0.45, 0.4, 0.5, 1.0)
_QUESTIONS = (
    "Given the buffer masks {b} and pallet masks {p}, what is the count of pallets in the {where}?",
    "Using the buffer masks {b} and pallet masks {p}, how many pallets are situated in the {where}?",
    "Based on the provided buffer masks {b} and pallet masks {p}, what is the count of pallets in the {where}?",
    "Given the buffer regions {b} and the pallets {p}, how many pallets are there in the {where}?",
    "Among the given buffer masks {b} and pallet masks {p}, how many pallets are stored in the {where}?",
    "Considering the buffer regions {b} and the pallets {p}, what is the total number of pallets in the {where}?",
    "Using the buffer masks {b} and pallet masks {p}, can you determine how many pallets are inside the {where}?",
)
_PALLETS_FIRST_QUESTIONS = (
    "Considering the pallets {p}, what is the total number of pallets in the {where} among {b}?",
    "Given the pallet masks {p}, how many pallets are placed in the {where} among the buffer masks {b}?",
)
_NEAREST_CLAIMS = ("buffer region {b} is the closest to the shelf {s}", "buffer area {b} is nearest to the shelf {s}")


def ask_count(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask how many pallets the leftmost, rightmost or middle buffer holds, in an official sentence."""
    buffers, pallets = shuffled(graph.of_kind("buffer"), rng), shuffled(graph.of_kind("pallet"), rng)
    side = pick(rng, ("leftmost", "rightmost", "middle"))
    buffer = find_extreme(graph, buffers, side)
    if buffer is None:
        return None
    pallets, inside = _listed_pallets(pallets, buffer, rng)
    if not _keep_count(len(inside), rng):
        return None
    short = {"leftmost": "left", "rightmost": "right"}.get(side, side)
    where = pick(rng, (f"{side} buffer region", f"{side} buffer area", f"{short} buffer zone", f"{side} buffer"))
    pallets_first = rng.random() < 0.2
    objects = [*pallets, *buffers] if pallets_first else [*buffers, *pallets]
    forms = _PALLETS_FIRST_QUESTIONS if pallets_first else _QUESTIONS
    text = pick(rng, forms).format(b=masks(len(buffers)), p=masks(len(pallets)), where=where)
    claim = _claim_side(objects, buffer, side, rng)
    return _counted(text, objects, _Found(claim, buffer, inside, compare_sides(objects, buffers, side)), rng)


def ask_count_by_shelf(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask how many pallets the buffer nearest to the left or right shelf holds, in an official sentence."""
    buffers, pallets = shuffled(graph.of_kind("buffer"), rng), shuffled(graph.of_kind("pallet"), rng)
    shelves, side = shuffled(graph.of_kind("shelf"), rng), pick(rng, ("left", "right"))
    shelf, buffer = find_shelf_and_buffer(graph, shelves, side, buffers)
    if shelf is None or buffer is None:
        return None
    pallets, inside = _listed_pallets(pallets, buffer, rng)
    objects = [*buffers, *pallets, *shelves]
    if not _keep_count(len(inside), rng) or len(objects) > MAX_MARKED:
        return None
    where = f"buffer region closest to the shelf on the {side} among {masks(len(shelves))}"
    text = pick(rng, _QUESTIONS).format(b=masks(len(buffers)), p=masks(len(pallets)), where=where)
    nearest = pick(rng, _NEAREST_CLAIMS).format(b=tags(objects, buffer), s=tags(objects, shelf))
    claim = f"The shelf {tags(objects, shelf)} is the shelf on the {side}. The {nearest}."
    steps = [*compare_sides(objects, shelves, side + "most"), *compare_distances(objects, buffers, shelf)]
    return _counted(text, objects, _Found(claim, buffer, inside, steps), rng)


def ask_count_form(graph: SceneGraph, rng: np.random.Generator, form: OfficialForm) -> Question | None:
    """Ask an official form about the pallets in the buffer that is on a side, or nearest to a shelf (on a side)."""
    buffers, pallets = shuffled(graph.of_kind("buffer"), rng), shuffled(graph.of_kind("pallet"), rng)
    shelves = shuffled(graph.of_kind("shelf"), rng)
    shelf: SceneObject | None = None
    if form.relation == "buffer_on_side":
        buffer = find_extreme(graph, buffers, form.extreme())
    elif form.relation == "buffer_by_shelf_on_side":
        shelf, buffer = find_shelf_and_buffer(graph, shelves, form.extreme().removesuffix("most"), buffers)
    else:
        shelf = shelves[0] if shelves else None
        buffer = find_nearest(shelf, buffers) if shelf else None
    if buffer is None:
        return None
    pallets, inside = _listed_pallets(pallets, buffer, rng)
    text, objects = fill_form(form, buffers=buffers, pallets=pallets, shelves=shelves, shelf=shelves[:1])
    if not 1 <= len(inside) <= 4 or len(objects) > MAX_MARKED:
        return None
    claim, steps = "", []
    if form.relation == "buffer_on_side":
        claim, steps = _claim_side(objects, buffer, form.extreme(), rng), compare_sides(objects, buffers, form.extreme())
    if form.relation == "buffer_by_shelf_on_side" and shelf is not None:
        side = form.extreme().removesuffix("most")
        claim, steps = f"The shelf {tags(objects, shelf)} is the shelf on the {side}. ", compare_sides(objects, shelves, side + "most")
    if shelf is not None:
        claim += f"The {pick(rng, _NEAREST_CLAIMS).format(b=tags(objects, buffer), s=tags(objects, shelf))}."
        steps = [*steps, *compare_distances(objects, buffers, shelf)]
    return _counted(text, objects, _Found(claim, buffer, inside, steps), rng)


def _listed_pallets(
    pallets: list[SceneObject], buffer: SceneObject, rng: np.random.Generator
) -> tuple[list[SceneObject], list[SceneObject]]:
    """Return the pallets that a question lists, and those of them in the buffer.

    Now and then some that stand elsewhere are left out, so that the length of the list tells little about the answer.
    """
    inside = [item for item in pallets if stands_in(item, buffer)]
    outside = [item for item in pallets if not stands_in(item, buffer)]
    if rng.random() < 0.5 and len(outside) > 1:
        outside = outside[: int(rng.integers(1, len(outside)))]
    return shuffled([*inside, *outside], rng), inside


def _keep_count(inside: int, rng: np.random.Generator) -> bool:
    """Even out how often 1 to 4 are the answer: high counts are rarer, since pallets hide one another or leave the frame."""
    return 1 <= inside <= 4 and bool(rng.random() < _COUNT_SHARES[inside - 1])


def _claim_side(objects: list[SceneObject], buffer: SceneObject, side: str, rng: np.random.Generator) -> str:
    among = pick(rng, ("", " among all the buffer regions"))
    return from_viewpoint(rng, f"The buffer region {tags(objects, buffer)} is the {side} buffer region{among}.")


@dataclass(frozen=True)
class _Found:
    """The buffer that a count is about: the sentence that says which it is, the pallets in it, and the steps that lead to it."""

    claim: str
    buffer: SceneObject
    inside: list[SceneObject]
    steps: list[str]


def _counted(text: str, objects: list[SceneObject], found: _Found, rng: np.random.Generator) -> Question:
    count, buffer = len(found.inside), tags(objects, found.buffer)
    be, plural = ("are", "s") if count > 1 else ("is", "")
    names = " ".join([f"pallet{plural}", *(region_tag(k) for k in sorted(map(objects.index, found.inside)))])
    listing = pick(
        rng,
        (
            f"The {names} {be} located in the buffer region {buffer}.",
            f"The buffer region {buffer} contains {names}.",
            f"You can find {names} inside the buffer region {buffer}.",
            f"I see {names} in the buffer region {buffer}.",
        ),
    )
    amount = f"{number_word(count)} pallet{plural}"
    end = pick(
        rng,
        (
            f"Therefore, the buffer area {buffer} has {amount}.",
            f"Hence, there {be} {amount} in the buffer area {buffer}.",
            f"Therefore, the buffer region {buffer} holds a total of {amount}.",
            f"It means that there {be} {amount} in the buffer zone {buffer}.",
        ),
    )
    pallets = [item for item in objects if item.kind == "pallet"]
    steps = join_steps(found.steps, _count_steps(objects, pallets, found.buffer))
    return Question(text, objects, f"{found.claim} {listing} {end}", count, "count", steps, max_same_fact=4)


def _count_steps(objects: list[SceneObject], pallets: list[SceneObject], buffer: SceneObject) -> list[str]:
    """Return a step per pallet: how many stand in the buffer up to it."""
    counts = itertools.accumulate(int(stands_in(item, buffer)) for item in pallets)
    return [f"{tags(objects, item, buffer)} {count}" for item, count in zip(pallets, counts, strict=True)]


def ask_count_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask how many of the listed pallets a buffer holds, in plain words."""
    buffers = shuffled(graph.of_kind("buffer"), rng)
    pallets = shuffled(graph.of_kind("pallet"), rng)[: int(rng.integers(2, MAX_LISTED + 1))]
    if not buffers or len(pallets) < 2:
        return None
    buffer = buffers[0]
    inside = sum(stands_in(item, buffer) for item in pallets)
    if inside == 0 and rng.random() > 0.3:
        return None
    form = pick(rng, load_wordings("count")["counts"][wording])
    objects = [*pallets, buffer] if form.index("{list}") < form.index("{b}") else [buffer, *pallets]
    name = pick(rng, ("<mask>", "<mask>", "the buffer <mask>", "buffer region <mask>", "the area <mask>"))
    text = as_typed(form.format(list=list_masks(pallets, rng), b=name), rng)
    answer = f"There are {number_word(inside)} pallets in {tags(objects, buffer)}."
    steps = join_steps(_count_steps(objects, pallets, buffer))
    return Question(text, objects, answer, inside, "count", steps, max_same_fact=4)


def ask_inside(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask whether an object stands in a buffer: the step that a count is made of."""
    movable, buffers = graph.of_kind("pallet") + graph.of_kind("transporter"), graph.of_kind("buffer")
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
    return Question(text.format(n=item.name), [item, buffer], answer, "in" if wanted else "out", "inside", "[Region 0][Region 1]")


def survey_insides(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask which of several objects stand in a buffer."""
    objects, buffers = draw_several(graph.of_kind("pallet") + graph.of_kind("transporter"), rng), graph.of_kind("buffer")
    if not objects or not buffers:
        return None
    buffer = pick(rng, buffers)
    text = pick(rng, ("Which of {m} are inside the buffer region <mask>?", "Are {m} in or out of the buffer region <mask>?"))
    values = ["in" if stands_in(item, buffer) else "out" for item in objects]
    sentence = f"{{r}} is {{v}} of the buffer region {region_tag(len(objects))}."
    return list_facts("insides", text.format(m=masks(len(objects))), [*objects, buffer], values, sentence)
