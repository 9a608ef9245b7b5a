"""The official facts in the words that people use: short, with or without a noun, in either order, sometimes without capitals.

A model that knows only the official sentences answers those alone: of two marked regions, the official questions about their distance were
right in 98 of 100 and "How far is <mask> from <mask>?" in 2. ``wordings.json`` has the forms; the reserved ones are never trained on, and
most of them were written by somebody who had not seen the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from smolrgpt.data.worlds import questions as official
from smolrgpt.data.worlds.questions import NAMES, Question, distance_m, in_buffer
from smolrgpt.data.worlds.scene import Scene, SceneObject

Wording = Literal["known", "reserved"]
WORDINGS: tuple[Wording, ...] = ("known", "reserved")
#: Regions a question lists at most.
MAX_LISTED = 8

#: What is asked -> wording -> forms. Their places: things {a} and {b} or a {list} of them, and a {side} or the {short} word for it.
FORMS: dict[str, dict[Wording, list[str]]] = json.loads(Path(__file__).with_name("wordings.json").read_text(encoding="utf-8"))
#: What stands before a question now and then.
_OPENINGS = ("Please: ", "Look at the picture. ", "Question: ", "In this picture, ", "Hi! ", "I need to know: ")
_NOUNS = ("{}", "{}", "the object {}", "object {}", "the thing {}", "region {}", "the region {}", "the one in {}", "item {}")


def plain_questions(scene: Scene, rng: np.random.Generator, n: int, wording: Wording = "known") -> list[Question]:
    """At most n different questions of the official four categories, and of lengths, a share each as far as there are."""

    def maker(ask: _Ask) -> official.Maker:
        return lambda scene, rng: ask(scene, rng, wording)

    makers = {name: [(weight, maker(ask)) for weight, ask in asks] for name, asks in _MAKERS.items()}
    return official.ask_evenly(scene, rng, n, makers)


def _name(thing: SceneObject, rng: np.random.Generator, bare: bool) -> str:
    """``<mask>`` alone, or with a noun."""
    if bare:
        return "<mask>"
    if rng.random() < 0.4:
        return f"{official.pick(rng, ('the ', '', 'that '))}{NAMES[thing.kind]} <mask>"
    return str(official.pick(rng, _NOUNS)).format("<mask>")


def _list(things: Sequence[SceneObject], rng: np.random.Generator) -> str:
    masks = ["<mask>"] * len(things)
    noun = str(official.pick(rng, ("", "", "", "the ", "")))
    if noun and len({thing.kind for thing in things}) == 1:
        noun += f"{NAMES[things[0].kind]}s "
    elif noun:
        noun = "the objects "
    form = int(rng.integers(4))
    if form == 0:
        return noun + " ".join(masks)
    if form == 1:
        return noun + ", ".join(masks)
    return noun + ", ".join(masks[:-1]) + (" and " if form == 2 else " or ") + masks[-1]


def _spoken(text: str, rng: np.random.Generator) -> str:
    """As it may be typed: capitals, question mark and manners come and go."""
    text = text[0].upper() + text[1:]
    chance = rng.random(3)
    if chance[0] < 0.1:
        text = str(official.pick(rng, _OPENINGS)) + text
    if chance[1] < 0.2:
        text = text.lower()
    return text.rstrip("?.") if chance[2] < 0.15 else text


def _pair_text(forms: Sequence[str], pair: Sequence[SceneObject], rng: np.random.Generator) -> tuple[str, list[SceneObject]]:
    """A question about a and b, and the two in order of mention."""
    form, bare = str(official.pick(rng, forms)), rng.random() < 0.5
    a, b = (_name(thing, rng, bare) for thing in pair)
    things = list(pair) if form.index("{a}") < form.index("{b}") else list(pair)[::-1]
    return _spoken(form.format(a=a, b=b), rng), things


def _side(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    pair = official.shuffled(scene.regions, rng)[:2]
    if len(pair) < 2 or official.by_side(scene, pair) is None:
        return None
    text, things = _pair_text(FORMS["sides"][wording], pair, rng)
    one, two = pair
    side = "left" if one.image_xy[0] < two.image_xy[0] else "right"
    answer = f"{official.tags(things, one)} is to the {side} of {official.tags(things, two)}."
    return Question(text, things, answer, side, "left_right", official.tags(things, one, two))


def _distance(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    pair = official.shuffled(scene.regions, rng)[:2]
    if len(pair) < 2 or (distance_m(*pair) == 0 and rng.random() < 0.5):
        return None
    text, things = _pair_text(FORMS["distances"][wording], pair, rng)
    metres = distance_m(*pair)
    answer = f"The distance is {metres:.2f} meters." if metres else "One is within the other."
    return Question(text, things, answer, metres or 0, "distance", official.tags(things, *things))


def _some(scene: Scene, rng: np.random.Generator) -> list[SceneObject]:
    pool = scene.of_kind("pallet") if rng.random() < 0.6 else scene.regions
    return official.shuffled(pool, rng)[: int(rng.integers(2, MAX_LISTED + 1))]


def _extreme(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    things, side = _some(scene, rng), str(official.pick(rng, ("leftmost", "rightmost")))
    chosen = official.extreme(scene, things, side)
    if chosen is None:
        return None
    form = str(official.pick(rng, FORMS["extremes"][wording]))
    text = _spoken(form.format(list=_list(things, rng), side=side, short=side.removesuffix("most")), rng)
    number = things.index(chosen)
    steps = ", ".join(official.sides_compared(things, things, side))
    return Question(text, things, f"[Region {number}] is the {side}.", str(number), "mcq", steps)


def _nearest(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    if not scene.regions:
        return None
    anchor = official.pick(rng, scene.regions)
    listed = [thing for thing in _some(scene, rng) if thing is not anchor]
    chosen = official.nearest(anchor, listed)
    if chosen is None:
        return None
    form = str(official.pick(rng, FORMS["nearest"][wording]))
    things = [*listed, anchor] if form.index("{list}") < form.index("{a}") else [anchor, *listed]
    text = _spoken(form.format(list=_list(listed, rng), a=_name(anchor, rng, bool(rng.random() < 0.5))), rng)
    number = things.index(chosen)
    answer = f"[Region {number}] is the closest to {official.tags(things, anchor)}."
    steps = ", ".join(official.distances_compared(things, listed, anchor))
    return Question(text, things, answer, str(number), "mcq", steps)


def _count(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    buffers = official.shuffled(scene.of_kind("buffer"), rng)
    pallets = official.shuffled(scene.of_kind("pallet"), rng)[: int(rng.integers(2, MAX_LISTED + 1))]
    if not buffers or len(pallets) < 2:
        return None
    buffer = buffers[0]
    inside = sum(in_buffer(thing, buffer) for thing in pallets)
    if inside == 0 and rng.random() > 0.3:
        return None
    form = str(official.pick(rng, FORMS["counts"][wording]))
    things = [*pallets, buffer] if form.index("{list}") < form.index("{b}") else [buffer, *pallets]
    name = str(official.pick(rng, ("<mask>", "<mask>", "the buffer <mask>", "buffer region <mask>", "the area <mask>")))
    text = _spoken(form.format(list=_list(pallets, rng), b=name), rng)
    amount, checked = 0, []
    for thing in pallets:
        amount += int(in_buffer(thing, buffer))
        checked.append(f"{official.tags(things, thing, buffer)} {amount}")
    answer = f"There are {official.WORDS[inside]} pallets in {official.tags(things, buffer)}."
    return Question(text, things, answer, inside, "count", ", ".join(checked))


def _size(scene: Scene, rng: np.random.Generator, wording: Wording, up: bool) -> Question | None:
    measure = official.up_m if up else official.across_m
    things = [thing for thing in scene.regions if measure(thing)]
    if not things:
        return None
    thing = official.pick(rng, things)
    metres = measure(thing)
    form = str(official.pick(rng, FORMS["heights" if up else "widths"][wording]))
    text = _spoken(form.format(a=_name(thing, rng, bool(rng.random() < 0.5))), rng)
    category = "height" if up else "width"
    return Question(text, [thing], f"The {category} of [Region 0] is {metres:.2f} meters.", metres, category, "[Region 0]")


def _width(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    return _size(scene, rng, wording, up=False)


def _height(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    return _size(scene, rng, wording, up=True)


def _apart(scene: Scene, rng: np.random.Generator, wording: Wording) -> Question | None:
    pair = official.shuffled([thing for thing in scene.regions if thing.kind != "buffer"], rng)[:2]
    metres = official.vertical_m(*pair) if len(pair) == 2 else 0
    if metres < official.LEAST_APART_M:
        return None
    text, things = _pair_text(FORMS["apart"][wording], pair, rng)
    return Question(text, things, f"The vertical distance is {metres:.2f} meters.", metres, "vertical", official.tags(things, *things))


_Ask = Callable[[Scene, np.random.Generator, Wording], Question | None]
_MAKERS: dict[str, list[tuple[float, _Ask]]] = {
    "left_right": [(1.0, _side)],
    "distance": [(1.0, _distance)],
    "mcq": [(0.5, _extreme), (0.5, _nearest)],
    "count": [(1.0, _count)],
    "size": [(0.35, _width), (0.35, _height), (0.3, _apart)],
}
