"""Questions about a scene with their answers, after the official conventions.

Official categories: ``left_right`` (side of region 0 relative to region 1), ``count`` (pallets in a buffer, 1 to 4), ``mcq`` (a region
number), ``distance`` (metres between the middles of the 3-D boxes, a pallet's load included; a buffer's middle is its rectangle's on the
floor; 0 where one contains the other). ``warmup`` asks about single regions and pairs, ``extra`` about sizes and directions as
SpatialRGPT-Bench does. Whatever is not clear in the picture is not asked (leftmost by a hair, two pallets equally near).
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.data.worlds.scene import Scene, SceneObject
from smolrgpt.schema import DepthMap, Sample

#: Two objects are left and right of one another when their mask centroids differ by this share of the image's width.
SIDE_MARGIN = 0.02
#: The nearest of several must be this much nearer than the second.
NEAREST_MARGIN = 0.08
MAX_CANDIDATES = 13
#: Share of the questions with the answers 1, 2, 3 and 4 that is asked; measured, so that each is about a quarter.
COUNT_SHARES = (0.45, 0.4, 0.5, 1.0)
NAMES = {"pallet": "pallet", "buffer": "buffer region", "transporter": "transporter", "shelf": "shelf"}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen")
OFFICIAL = ("left_right", "count", "mcq", "distance")


@dataclass(eq=False)
class Question:
    """text holds one ``<mask>`` per entry of things, in order; answer names them ``[Region i]``.

    steps: what has to be looked up on the way to the answer, region by region; empty when one look is enough.
    """

    text: str
    things: list[SceneObject]
    answer: str
    normalized: str | int | float | None
    category: str
    steps: str = ""


Maker = Callable[[Scene, np.random.Generator], Question | None]


def scene_questions(scene: Scene, rng: np.random.Generator, n: int) -> list[Question]:
    """At most n different questions of the official four categories, a quarter each as far as the scene has them."""
    return ask_evenly(scene, rng, n, _OFFICIAL_MAKERS)


def warmup_questions(scene: Scene, rng: np.random.Generator, n: int) -> list[Question]:
    """At most n questions about what and where single regions are, and how pairs compare."""
    return ask_evenly(scene, rng, n, _WARMUP_MAKERS)


def extra_questions(scene: Scene, rng: np.random.Generator, n: int) -> list[Question]:
    """At most n questions of the kinds width, height, vertical, behind and above."""
    return ask_evenly(scene, rng, n, _EXTRA_MAKERS)


def to_row(question: Question, image: str, layout: str, key: str, rng: np.random.Generator) -> dict[str, Any]:
    """The official record; ``key`` makes the id."""
    head = "<image>\n" if rng.random() < 0.75 else ""
    return {
        "id": hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(),
        "image": image,
        "conversations": [{"from": "human", "value": head + question.text}, {"from": "gpt", "value": question.answer}],
        "rle": [thing.region.to_rle() for thing in question.things],
        "category": question.category,
        "normalized_answer": question.normalized,
        "freeform_answer": question.answer,
        "layout": layout,
        "steps": question.steps,
        **_measures(question),
    }


def to_samples(scene: Scene, questions: Sequence[Question], key: str) -> list[Sample]:
    """Samples in memory with metric depth and camera; they share one picture."""
    image, depth = Image.fromarray(scene.rgb), DepthMap(scene.depth_m, "metric")
    return [
        Sample(
            id=f"{key}-{number}",
            image=image,
            question=question.text,
            regions=[thing.region for thing in question.things],
            depth=depth,
            camera=scene.camera,
            answer=question.answer,
            normalized_answer=question.normalized,
            category=question.category,
            image_key=key,
            metadata={"layout": scene.layout, "steps": question.steps, **_measures(question)},
        )
        for number, question in enumerate(questions)
    ]


def _measures(question: Question) -> dict[str, list[list[float | None]]]:
    """Of each region's 3-D box, metres to the centimetre: its middle (on the floor and above it), and how long across and up it is."""
    return {
        "centers_m": [[round(float(metres), 2) for metres in thing.center_m] for thing in question.things],
        "sizes_m": [[across_m(thing), up_m(thing)] for thing in question.things],
    }


def across_m(thing: SceneObject) -> float:
    """The longer side on the floor, to the centimetre."""
    return round(float(max(thing.size_m[:2])), 2)


def up_m(thing: SceneObject) -> float | None:
    """The height to the centimetre; None of a buffer, which is a place on the floor."""
    return None if thing.kind == "buffer" else round(float(thing.size_m[2]), 2)


def scene_samples(scene: Scene, n: int, rng: np.random.Generator, key: str | None = None) -> list[Sample]:
    """At most n official questions as samples. ``key`` names the picture; by default a hash of it."""
    key = key or hashlib.md5(scene.rgb.tobytes(), usedforsecurity=False).hexdigest()
    return to_samples(scene, scene_questions(scene, rng, n), key)


def distance_m(one: SceneObject, two: SceneObject) -> float:
    """Metres between the middles, rounded to centimetres; 0 when one stands in the other."""
    if in_buffer(one, two) or in_buffer(two, one):
        return 0.0
    return round(float(np.linalg.norm(one.center_m - two.center_m)), 2)


def in_buffer(thing: SceneObject, buffer: SceneObject) -> bool:
    """Whether a pallet's or transporter's middle is over the buffer; no scene has one that straddles the outline from outside."""
    movable = thing.kind in ("pallet", "transporter") and buffer.kind == "buffer"
    return movable and buffer.footprint.contains(thing.footprint.x, thing.footprint.y)


def ask_evenly(scene: Scene, rng: np.random.Generator, n: int, makers: dict[str, list[tuple[float, Maker]]]) -> list[Question]:
    """An equal share for every group of makers; what a group cannot give, the others fill up to half as much again. In random order."""
    found: list[Question] = []
    seen: Counter[tuple[Any, ...]] = Counter()
    counted = dict.fromkeys(makers, 0)
    for share in (n / len(makers), 1.5 * n / len(makers)):
        for group in [list(makers)[k] for k in rng.permutation(len(makers))]:
            wanted = min(round(share) - counted[group], n - len(found))
            new = _draw(scene, rng, wanted, makers[group], seen)
            counted[group] += len(new)
            found += new
    return [found[k] for k in rng.permutation(len(found))]


def _draw(
    scene: Scene, rng: np.random.Generator, wanted: int, makers: list[tuple[float, Maker]], seen: Counter[tuple[Any, ...]]
) -> list[Question]:
    """At most ``wanted`` new questions in five times as many tries, makers drawn by weight."""
    found: list[Question] = []
    weights = np.array([weight for weight, _ in makers])
    for choice in rng.choice(len(makers), 5 * max(wanted, 0), p=weights / weights.sum()):
        if len(found) == wanted:
            break
        question = makers[int(choice)][1](scene, rng)
        if question is not None and _is_new(question, seen):
            found.append(question)
    return found


def _is_new(question: Question, seen: Counter[tuple[Any, ...]]) -> bool:
    """Not the same words about the same objects, and not the same fact a third time (a count has few facts: a fifth)."""
    fact = (question.category, question.answer.count("[Region"), frozenset(id(thing) for thing in question.things), question.normalized)
    text = (question.text, *(id(thing) for thing in question.things))
    if seen[text] or seen[fact] >= (4 if question.category == "count" else 2):
        return False
    seen[text] += 1
    seen[fact] += 1
    return True


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def shuffled(things: Sequence[SceneObject], rng: np.random.Generator) -> list[SceneObject]:
    return [things[k] for k in rng.permutation(len(things))]


def _masks(count: int) -> str:
    return " ".join(["<mask>"] * count)


def _tag(number: int) -> str:
    return f"[Region {number}]"


def _width(scene: Scene) -> int:
    return scene.camera.width


def by_side(scene: Scene, things: Sequence[SceneObject]) -> list[SceneObject] | None:
    """Left to right, or None when two neighbours are too close to tell."""
    ordered = sorted(things, key=lambda thing: thing.image_xy[0])
    x = [thing.image_xy[0] for thing in ordered]
    return ordered if all(b - a >= SIDE_MARGIN * _width(scene) for a, b in zip(x, x[1:], strict=False)) else None


def extreme(scene: Scene, things: Sequence[SceneObject], side: str) -> SceneObject | None:
    """The leftmost, rightmost or (of three) middle one, or None when that is not clear."""
    if side == "middle":
        ordered = by_side(scene, things) if len(things) == 3 else None
        return ordered[1] if ordered else None
    ordered = sorted(things, key=lambda thing: thing.image_xy[0], reverse=side == "rightmost")
    if len(ordered) < 2 or abs(ordered[0].image_xy[0] - ordered[1].image_xy[0]) < SIDE_MARGIN * _width(scene):
        return None
    return ordered[0]


def nearest(thing: SceneObject, others: Sequence[SceneObject]) -> SceneObject | None:
    """The nearest of several by the middles, or None when the second is nearly as near."""
    if len(others) < 2:
        return None
    away = np.array([np.linalg.norm(thing.center_m - other.center_m) for other in others])
    order = np.argsort(away)
    return others[int(order[0])] if away[order[1]] >= (1 + NEAREST_MARGIN) * away[order[0]] else None


def _percent(share: float) -> int:
    """Two digits: 0 to 99."""
    return min(99, max(0, int(100 * share)))


#: Vertical distances below this are not asked for: a quarter of it is a centimetre.
LEAST_APART_M = 0.05


def vertical_m(one: SceneObject, two: SceneObject) -> float:
    """Metres between the heights of the two middles, to the centimetre."""
    return round(abs(float(one.center_m[2] - two.center_m[2])), 2)


def brief_metres(value: float) -> str:
    """As few digits as an answer within 10 % needs, and one to spare."""
    return f"{value:.2f}" if value < 3 else f"{value:.1f}"


def sides_compared(things: Sequence[SceneObject], among: Sequence[SceneObject], side: str) -> list[str]:
    """Steps to the leftmost, rightmost or (of three) middle of ``among``: the best so far and the next one, on which side of it the best so
    far is, and the better of the two; then which it is."""
    steps, found = [], []
    for end in ("leftmost", "rightmost") if side == "middle" else (side,):
        best = among[0]
        for thing in among[1:]:
            word = "left" if best.image_xy[0] < thing.image_xy[0] else "right"
            better = best if end.startswith(word) else thing
            steps.append(f"{tags(things, best, thing)} {word}{tags(things, better)}")
            best = better
        found.append(best)
    chosen = found[0] if side != "middle" else next(thing for thing in among if thing not in found)
    return [*steps, f"{side} {chosen.kind}{tags(things, chosen)}"]


def distances_compared(things: Sequence[SceneObject], among: Sequence[SceneObject], anchor: SceneObject) -> list[str]:
    """Steps to the one of ``among`` nearest to the anchor: the best so far, the next one, whether the first is nearer, the better."""
    steps, best = [], among[0]
    for thing in among[1:]:
        nearer = np.linalg.norm(best.center_m - anchor.center_m) < np.linalg.norm(thing.center_m - anchor.center_m)
        better = best if nearer else thing
        steps.append(f"{tags(things, anchor, best, anchor, thing)} {'nearer' if nearer else 'farther'}{tags(things, better)}")
        best = better
    return [*steps, f"nearest {best.kind}{tags(things, best)}"]


def tags(things: Sequence[SceneObject], *named: SceneObject) -> str:
    return "".join(_tag(things.index(thing)) for thing in named)


def _steps(*parts: list[str]) -> str:
    return ", ".join(step for part in parts for step in part)


def _view(rng: np.random.Generator) -> str:
    return str(pick(rng, ("", "", "From this viewpoint, ", "From the image's perspective, ", "Observing from this perspective, ")))


def _says(rng: np.random.Generator, sentence: str) -> str:
    """The sentence, now and then after a phrase of viewpoint."""
    head = _view(rng)
    return head + (sentence[0].lower() + sentence[1:] if head and sentence.startswith("The ") else sentence)


# left_right ------------------------------------------------------------------------------------------------------------------------

_SIDE_QUESTIONS = (
    "Is {a} to the left or right of {b}?",
    "From this viewpoint, does {a} appear on the left or right side of {b}?",
    "Does {a} appear on the left or right side of {b}?",
    "Is {a} positioned on the left or right side of {b} relative to the observer?",
    "Is {a} to the {side} of {b} from the image's perspective?",
    "Looking from this perspective, is {a} to the {side} of {b}?",
    "Is {a} placed to the {side} of {b} when looking from this angle?",
    "Is {a} positioned on the {side} side of {b} relative to the observer?",
    "Can you determine if {a} is to the {side} of {b} based on the current viewing angle?",
)


def _left_right(scene: Scene, rng: np.random.Generator) -> Question | None:
    pools = [pool for pool in (scene.of_kind(kind) for kind in ("pallet", "pallet", "pallet", "buffer", "transporter", "shelf")) if pool]
    if rng.random() < 0.7:
        pool = pick(rng, pools)
        pair = shuffled(pool, rng)[:2]
    else:
        pair = shuffled(scene.regions, rng)[:2]
    if len(pair) < 2 or by_side(scene, pair) is None:
        return None
    side = "left" if pair[0].image_xy[0] < pair[1].image_xy[0] else "right"
    a, b = (f"the {NAMES[thing.kind]}" for thing in pair)
    text = _capital(pick(rng, _SIDE_QUESTIONS).format(a=f"{a} <mask>", b=f"{b} <mask>", side=pick(rng, ("left", "right"))))
    form = pick(rng, ("is to the {s} of", "is on the {s} of", "is situated on the {s} of"))
    answer = _says(rng, f"The {NAMES[pair[0].kind]} [Region 0] {form.format(s=side)} {b} [Region 1].")
    return Question(text, pair, answer, side, "left_right", tags(pair, *pair))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


# count -----------------------------------------------------------------------------------------------------------------------------

_COUNT_QUESTIONS = (
    "Given the buffer masks {b} and pallet masks {p}, what is the count of pallets in the {where}?",
    "Using the buffer masks {b} and pallet masks {p}, how many pallets are situated in the {where}?",
    "Based on the provided buffer masks {b} and pallet masks {p}, what is the count of pallets in the {where}?",
    "Given the buffer regions {b} and the pallets {p}, how many pallets are there in the {where}?",
    "Among the given buffer masks {b} and pallet masks {p}, how many pallets are stored in the {where}?",
    "Considering the buffer regions {b} and the pallets {p}, what is the total number of pallets in the {where}?",
    "Using the buffer masks {b} and pallet masks {p}, can you determine how many pallets are inside the {where}?",
)
_COUNT_TURNED = (
    "Considering the pallets {p}, what is the total number of pallets in the {where} among {b}?",
    "Given the pallet masks {p}, how many pallets are placed in the {where} among the buffer masks {b}?",
)


def _count(scene: Scene, rng: np.random.Generator) -> Question | None:
    buffers, pallets = shuffled(scene.of_kind("buffer"), rng), shuffled(scene.of_kind("pallet"), rng)
    side = str(pick(rng, ("leftmost", "rightmost", "middle")))
    chosen = extreme(scene, buffers, side)
    if chosen is None:
        return None
    pallets, inside = _listed_pallets(pallets, chosen, rng)
    if not _keep_count(len(inside), rng):
        return None
    short = {"leftmost": "left", "rightmost": "right"}.get(side, side)
    where = pick(rng, (f"{side} buffer region", f"{side} buffer area", f"{short} buffer zone", f"{side} buffer"))
    turned = rng.random() < 0.2
    things = [*pallets, *buffers] if turned else [*buffers, *pallets]
    text = pick(rng, _COUNT_TURNED if turned else _COUNT_QUESTIONS).format(b=_masks(len(buffers)), p=_masks(len(pallets)), where=where)
    number = things.index(chosen)
    claim = _says(rng, f"The buffer region {_tag(number)} is the {side} buffer region{pick(rng, ('', ' among all the buffer regions'))}.")
    return _counted(text, things, claim, number, inside, rng, sides_compared(things, buffers, side))


def _count_by_shelf(scene: Scene, rng: np.random.Generator) -> Question | None:
    buffers, pallets = shuffled(scene.of_kind("buffer"), rng), shuffled(scene.of_kind("pallet"), rng)
    found = _shelf_and_buffer(scene, buffers, rng)
    if found is None:
        return None
    side, shelves, shelf, chosen = found
    pallets, inside = _listed_pallets(pallets, chosen, rng)
    things = [*buffers, *pallets, *shelves]
    if not _keep_count(len(inside), rng) or len(things) > 2 + MAX_CANDIDATES:
        return None
    where = f"buffer region closest to the shelf on the {side} among {_masks(len(shelves))}"
    text = pick(rng, _COUNT_QUESTIONS).format(b=_masks(len(buffers)), p=_masks(len(pallets)), where=where)
    shelf_tag, number = _tag(things.index(shelf)), things.index(chosen)
    near = pick(rng, ("buffer region {b} is the closest to the shelf {s}", "buffer area {b} is nearest to the shelf {s}"))
    claim = f"The shelf {shelf_tag} is the shelf on the {side}. The {near.format(b=_tag(number), s=shelf_tag)}."
    steps = [*sides_compared(things, shelves, side + "most"), *distances_compared(things, buffers, shelf)]
    return _counted(text, things, claim, number, inside, rng, steps)


def _shelf_and_buffer(
    scene: Scene, buffers: list[SceneObject], rng: np.random.Generator
) -> tuple[str, list[SceneObject], SceneObject, SceneObject] | None:
    """Side asked for, both shelves, the shelf on that side and the buffer nearest to it."""
    shelves, side = shuffled(scene.of_kind("shelf"), rng), str(pick(rng, ("left", "right")))
    if len(shelves) != 2:
        return None
    shelf = extreme(scene, shelves, side + "most")
    chosen = nearest(shelf, buffers) if shelf else None
    return None if shelf is None or chosen is None else (side, shelves, shelf, chosen)


def _listed_pallets(
    pallets: list[SceneObject], buffer: SceneObject, rng: np.random.Generator
) -> tuple[list[SceneObject], list[SceneObject]]:
    """The pallets a question lists, and those of them in the buffer.

    Now and then some that stand elsewhere are left out, so that the length of the list tells little about the answer.
    """
    inside = [thing for thing in pallets if in_buffer(thing, buffer)]
    outside = [thing for thing in pallets if not in_buffer(thing, buffer)]
    if rng.random() < 0.5 and len(outside) > 1:
        outside = outside[: int(rng.integers(1, len(outside)))]
    return shuffled([*inside, *outside], rng), inside


def _keep_count(inside: int, rng: np.random.Generator) -> bool:
    """Evens out how often 1, 2, 3 and 4 are the answer: high counts are rarer, since pallets hide one another or leave the frame."""
    return 1 <= inside <= 4 and bool(rng.random() < COUNT_SHARES[inside - 1])


def _counted(
    text: str,
    things: list[SceneObject],
    claim: str,
    number: int,
    inside: list[SceneObject],
    rng: np.random.Generator,
    found: list[str],
) -> Question:
    """found: the steps that lead to the buffer."""
    several, buffer = len(inside) > 1, _tag(number)
    names = " ".join(["pallets" if several else "pallet", *(_tag(k) for k in sorted(map(things.index, inside)))])
    listing = pick(
        rng,
        (
            f"The {names} {'are' if several else 'is'} located in the buffer region {buffer}.",
            f"The buffer region {buffer} contains {names}.",
            f"You can find {names} inside the buffer region {buffer}.",
            f"I see {names} in the buffer region {buffer}.",
        ),
    )
    amount = f"{WORDS[len(inside)]} pallet{'s' if several else ''}"
    end = pick(
        rng,
        (
            f"Therefore, the buffer area {buffer} has {amount}.",
            f"Hence, there {'are' if several else 'is'} {amount} in the buffer area {buffer}.",
            f"Therefore, the buffer region {buffer} holds a total of {amount}.",
            f"It means that there {'are' if several else 'is'} {amount} in the buffer zone {buffer}.",
        ),
    )
    pallets = [thing for thing in things if thing.kind == "pallet"]
    tally = itertools.accumulate(int(thing in inside) for thing in pallets)
    checked = [f"{_tag(things.index(thing))}{buffer} {amount}" for thing, amount in zip(pallets, tally, strict=True)]
    return Question(text, things, f"{claim} {listing} {end}", len(inside), "count", _steps(found, checked))


# mcq -------------------------------------------------------------------------------------------------------------------------------

_EXTREME_QUESTIONS = (
    "Which among {list} is situated on the extreme {short} from the observer's perspective?",
    "Among {list}, which one appears on the {side} side?",
    "Among {list}, which object appears closest to the {short} side?",
    "From the current viewing position, which of {list} is the {side}?",
    "Looking from this perspective, which of {list} is the {side}?",
    "Among {list}, which one is the {side} object from the image's perspective?",
)


def _extreme_of_three(scene: Scene, rng: np.random.Generator) -> Question | None:
    pool = scene.of_kind("pallet") if rng.random() < 0.8 else scene.regions
    things, side = shuffled(pool, rng)[:3], str(pick(rng, ("leftmost", "rightmost")))
    chosen = extreme(scene, things, side) if len(things) == 3 else None
    if chosen is None:
        return None
    a, b, c = (f"the {NAMES[thing.kind]} <mask>" for thing in things)
    text = pick(rng, _EXTREME_QUESTIONS).format(list=f"{a}, {b}, and {c}", side=side, short=side.removesuffix("most"))
    number = things.index(chosen)
    answer = _says(rng, f"The {NAMES[chosen.kind]} {_tag(number)} is the {side} object.")
    return Question(text, things, answer, str(number), "mcq", _steps(sides_compared(things, things, side)))


_PICKUP_SINGLE = (
    "Considering the placement of {p}, which pallet is the most convenient for {t} to collect?",
    "Considering the locations of pallets {p}, which is the optimal choice for the transporter in {t}?",
    "Based on pallet positions in {p}, which one should the transporter at {t} retrieve?",
    "Among the pallets in {p}, which one is best positioned for pickup by the transporter in {t}?",
    "Which pallet from {p} is the most suitable for the transporter at {t} to pick up?",
)
_PICKUP_MANY = (
    "Which pallet in {p} is the best candidate for automated retrieval by an available transporter in {t}?",
    "Which pallet in {p} should be assigned to an idle transporter in {t} for automated pickup?",
    "Which pallet in {p} is most suitable for an empty transporter in {t} to retrieve autonomously?",
)
_PICKUP_TURNED = (
    "Given the transporters {t} and the pallets {p}, which pallet is best suited for automated picking by an empty transporter?",
    "Given the available transporters {t} and pallets {p}, which pallet is the best choice for automated pickup by an empty transporter?",
)


def _pickup(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Which pallet for the transporter; for the one empty transporter when there are several."""
    pallets = shuffled(scene.of_kind("pallet"), rng)
    carriers = shuffled(scene.of_kind("transporter"), rng)
    # fewer candidates now and then, so that one scene has more than one such question
    if rng.random() < 0.5 and len(pallets) > 4:
        pallets = pallets[: int(rng.integers(4, len(pallets)))]
    pallets = pallets[:MAX_CANDIDATES]
    several = len(carriers) > 1 and rng.random() < 0.6
    if not several:
        carriers = carriers[:1]
    free = [thing for thing in carriers if not thing.loaded] if several else carriers
    chosen = nearest(free[0], pallets) if len(free) == 1 and len(pallets) >= 3 else None
    if chosen is None:
        return None
    turned = several and rng.random() < 0.4
    things = [*carriers, *pallets] if turned else [*pallets, *carriers]
    template = pick(rng, _PICKUP_TURNED if turned else _PICKUP_MANY if several else _PICKUP_SINGLE)
    text = template.format(p=_masks(len(pallets)), t=_masks(len(carriers)))
    pallet, carrier = _tag(things.index(chosen)), _tag(things.index(free[0]))
    claim = pick(
        rng,
        (
            f"The transporter {carrier} is not transporting any boxes. ",
            f"Among all the transporters, the transporter {carrier} is empty. ",
            f"At the moment, the transporter {carrier} is not loaded with any boxes. ",
        ),
    )
    end = pick(
        rng,
        (
            f"The pallet {pallet} is the closest to the transporter {carrier}, so it is the most suitable choice to pick up.",
            f"Given that pallet {pallet} is the closest to transporter {carrier}, it is the most logical choice for automated picking.",
            f"Given that pallet {pallet} is the nearest to transporter {carrier}, it is the optimal choice to pick up.",
        ),
    )
    loads = [f"{_tag(things.index(thing))} {'loaded' if thing.loaded else 'empty'}" for thing in carriers] if several else []
    steps = _steps(loads, distances_compared(things, pallets, free[0]))
    return Question(text, things, (claim if several else "") + end, str(things.index(chosen)), "mcq", steps)


def _buffer_by_shelf(scene: Scene, rng: np.random.Generator) -> Question | None:
    buffers = shuffled(scene.of_kind("buffer"), rng)
    found = _shelf_and_buffer(scene, buffers, rng)
    if found is None or len(buffers) < 3:
        return None
    side, shelves, shelf, chosen = found
    things = [*buffers, *shelves]
    text = pick(
        rng,
        (
            "Which buffer region from {b} is positioned closest to the shelves on the {side} among {s}?",
            "Among the buffer regions {b}, which one is nearest to the shelf on the {side} among {s}?",
        ),
    ).format(b=_masks(len(buffers)), s=_masks(len(shelves)), side=side)
    shelf_tag, tag = _tag(things.index(shelf)), _tag(things.index(chosen))
    answer = f"The shelf {shelf_tag} is the shelf on the {side}. The buffer region {tag} is the closest to the shelf {shelf_tag}."
    steps = _steps(sides_compared(things, shelves, side + "most"), distances_compared(things, buffers, shelf))
    return Question(text, things, answer, str(things.index(chosen)), "mcq", steps)


# distance --------------------------------------------------------------------------------------------------------------------------

_PAIR_QUESTIONS = (
    "What is the distance between {a} and {b}?",
    "Can you tell me the distance of {a} from {b}?",
    "How distant is {a} from {b}?",
    "How far is {a} from {b}?",
    "How close is {a} from {b}?",
    "Can you give me an estimation of the distance between {a} and {b}?",
    "Could you measure the distance between {a} and {b}?",
    "How much distance is there between {a} and {b}?",
    "Measure the distance between {a} and {b}.",
    "Tell me the distance between {a} and {b}.",
)
_PAIR_KINDS = (("pallet", "pallet"), ("pallet", "buffer"), ("pallet", "transporter"), ("transporter", "buffer"), ("pallet", "shelf"),
               ("buffer", "buffer"))  # fmt: skip
_PAIR_SHARES = (0.56, 0.16, 0.12, 0.08, 0.04, 0.04)
#: Of a pallet (or transporter) and the buffer it is in, this share is asked: zeros are about 7 % of the distances.
_ZERO_SHARE = 0.85


def _pair_distance(scene: Scene, rng: np.random.Generator) -> Question | None:
    one, two = _PAIR_KINDS[int(rng.choice(len(_PAIR_KINDS), p=_PAIR_SHARES))]
    first = shuffled(scene.of_kind(one), rng)
    second = [thing for thing in shuffled(scene.of_kind(two), rng) if not first or thing is not first[0]]
    if not first or not second:
        return None
    pair = shuffled([first[0], second[0]], rng) if rng.random() < 0.3 else [first[0], second[0]]
    if distance_m(*pair) == 0 and rng.random() > _ZERO_SHARE:
        return None
    a, b = (f"the {NAMES[thing.kind]} <mask>" for thing in pair)
    text = pick(rng, _PAIR_QUESTIONS).format(a=a, b=b)
    return Question(text, pair, _distance_text(pair, 0, 1, rng), _metres(distance_m(*pair)), "distance", tags(pair, *pair))


def _metres(value: float) -> int | float:
    """Official: int 0 for contact, else a float."""
    return value or 0


def _distance_text(things: list[SceneObject], i: int, j: int, rng: np.random.Generator) -> str:
    metres = distance_m(things[i], things[j])
    if metres == 0:
        i, j = (j, i) if things[i].kind == "buffer" else (i, j)
        verb = pick(rng, ("is within", "is located within", "is within"))
        return f"The {NAMES[things[i].kind]} {_tag(i)} {verb} the {NAMES[things[j].kind]} {_tag(j)}."
    a, b = (f"the {NAMES[things[k].kind]} {_tag(k)}" for k in (i, j))
    form = pick(
        rng,
        (
            "the distance of {a} from {b} is {m} meters.",
            "{a} is {m} meters from {b}.",
            "{a} is {m} meters away from {b}.",
            "{a} and {b} are {m} meters apart.",
            "the distance from {a} to {b} is {m} meters.",
        ),
    )
    return _capital(form.format(a=a, b=b, m=f"{metres:.2f}"))


def _transporter_to_buffer(scene: Scene, rng: np.random.Generator) -> Question | None:
    carriers, buffers = shuffled(scene.of_kind("transporter"), rng), shuffled(scene.of_kind("buffer"), rng)
    side = str(pick(rng, ("leftmost", "rightmost", "middle")))
    chosen = extreme(scene, buffers, side)
    if not carriers or chosen is None:
        return None
    first = rng.random() < 0.8
    things = [carriers[0], *buffers] if first else [*buffers, carriers[0]]
    text = pick(
        rng,
        (
            "What is the distance between transporter <mask> and the {side} buffer area in {b}?",
            "How far is transporter <mask> from the {side} buffer region among {b}?",
            "Can you determine the distance from transporter <mask> to the {side} buffer area in {b}?",
        )
        if first
        else ("Among the buffer zones {b}, what is the distance between transporter <mask> and the {side} buffer zone?",),
    ).format(side=side, b=_masks(len(buffers)))
    claim = _says(rng, f"The buffer region {_tag(things.index(chosen))} is the {side} buffer region.")
    return _chain(text, things, claim, carriers[0], chosen, rng, sides_compared(things, buffers, side))


def _pallet_to_buffer(scene: Scene, rng: np.random.Generator) -> Question | None:
    pallets, buffers = shuffled(scene.of_kind("pallet"), rng), shuffled(scene.of_kind("buffer"), rng)
    one, two = (str(pick(rng, ("leftmost", "rightmost"))) for _ in range(2))
    pallet, buffer = extreme(scene, pallets, one), extreme(scene, buffers, two)
    if pallet is None or buffer is None or (distance_m(pallet, buffer) == 0 and rng.random() > 0.5):
        return None
    things = [*buffers, *pallets]
    text = pick(
        rng,
        (
            "Considering the buffer regions {b} and the pallets {p}, how far is the {one} pallet from the {two} buffer region?",
            "Given the buffer regions {b} and the pallets {p}, what is the distance between the {one} pallet and the {two} buffer region?",
            "How close is the {one} pallet to the {two} buffer region among the buffer regions {b} and pallet masks {p}?",
        ),
    ).format(b=_masks(len(buffers)), p=_masks(len(pallets)), one=one, two=two)
    claim = _says(rng, f"{_tag(things.index(pallet))} is the {one} pallet.")
    claim += " " + _says(rng, f"{_tag(things.index(buffer))} is the {two} buffer region.")
    found = [*sides_compared(things, pallets, one), *sides_compared(things, buffers, two)]
    return _chain(text, things, claim, pallet, buffer, rng, found)


def _pallets_apart(scene: Scene, rng: np.random.Generator) -> Question | None:
    pallets = shuffled(scene.of_kind("pallet"), rng)
    left, right = extreme(scene, pallets, "leftmost"), extreme(scene, pallets, "rightmost")
    if left is None or right is None or len(pallets) < 3:
        return None
    text = pick(
        rng,
        (
            "How far is the leftmost pallet from the rightmost pallet among the pallets {p}?",
            "Among the pallets {p}, how much distance is there between the leftmost pallet and the rightmost pallet?",
            "Tell me the distance between the leftmost pallet and the rightmost pallet among the pallets {p}.",
        ),
    ).format(p=_masks(len(pallets)))
    a, b = _tag(pallets.index(left)), _tag(pallets.index(right))
    claim = _says(rng, f"{a} is the leftmost pallet, and {b} is the rightmost pallet.")
    found = [*sides_compared(pallets, pallets, "leftmost"), *sides_compared(pallets, pallets, "rightmost")]
    return _chain(text, pallets, claim, left, right, rng, found)


def _pallet_to_shelf(scene: Scene, rng: np.random.Generator) -> Question | None:
    pallets, shelves = shuffled(scene.of_kind("pallet"), rng), shuffled(scene.of_kind("shelf"), rng)
    side = str(pick(rng, ("leftmost", "rightmost")))
    pallet = extreme(scene, pallets, side)
    if pallet is None or not shelves:
        return None
    things = [*pallets, shelves[0]]
    text = pick(
        rng,
        (
            "Given the pallets {p}, how far is the {side} pallet from the shelf <mask>?",
            "What is the distance between the {side} pallet among the pallets {p} and the shelf <mask>?",
        ),
    ).format(p=_masks(len(pallets)), side=side)
    claim = _says(rng, f"{_tag(things.index(pallet))} is the {side} pallet.")
    return _chain(text, things, claim, pallet, shelves[0], rng, sides_compared(things, pallets, side))


def _chain(
    text: str, things: list[SceneObject], claim: str, one: SceneObject, two: SceneObject, rng: np.random.Generator, found: list[str]
) -> Question:
    """found: the steps that lead to the two."""
    i, j = things.index(one), things.index(two)
    answer = f"{claim} {_distance_text(things, i, j, rng)}"
    return Question(text, things, answer, _metres(distance_m(one, two)), "distance", _steps(found, [_tag(i) + _tag(j)]))


# warm-up and extra -----------------------------------------------------------------------------------------------------------------


def _one(scene: Scene, rng: np.random.Generator) -> SceneObject:
    """A visible object; kinds equally often, so that the many pallets do not swamp the rest."""
    kinds = sorted({thing.kind for thing in scene.regions})
    return pick(rng, scene.of_kind(str(pick(rng, kinds))))  # type: ignore[no-any-return]


def _full_name(thing: SceneObject) -> str:
    return {"transporter": "loaded transporter" if thing.loaded else "empty transporter"}.get(thing.kind, NAMES[thing.kind])


def _what(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = _one(scene, rng)
    name = _full_name(thing)
    text = pick(rng, ("What is <mask>?", "What kind of object is <mask>?", "Can you name the object in <mask>?"))
    article = "an" if name[0] in "aeiou" else "a"
    return Question(text, [thing], f"[Region 0] is {article} {name}.", name, "what", "[Region 0]")


def _where(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = _one(scene, rng)
    across, down = _percent(thing.image_xy[0] / scene.camera.width), _percent(thing.image_xy[1] / scene.camera.height)
    text = pick(rng, ("Where is <mask>?", "Where in the image is <mask>?", "What is the position of <mask> in the image?"))
    answer = f"[Region 0] is {across} percent from the left and {down} percent from the top of the image."
    return Question(text, [thing], answer, f"{across:02d} {down:02d}", "where", "[Region 0]")


def _from_camera(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = _one(scene, rng)
    metres = round(float(np.linalg.norm(thing.camera_center_m)), 2)
    forms = ("How far is <mask> from the camera?", "What is the distance of <mask> from the camera?", "How distant is <mask> from us?")
    text = pick(rng, forms)
    return Question(text, [thing], f"[Region 0] is {metres:.2f} meters from the camera.", metres, "depth", "[Region 0]")


def _closer(scene: Scene, rng: np.random.Generator) -> Question | None:
    pair = shuffled(scene.regions, rng)[:2]
    away = [float(np.linalg.norm(thing.camera_center_m)) for thing in pair]
    if len(pair) < 2 or max(away) < 1.05 * min(away):
        return None
    near = int(np.argmin(away))
    text = pick(rng, ("Which is closer to the camera, <mask> or <mask>?", "Which of <mask> and <mask> is nearer to the observer?"))
    steps = ", ".join(f"{_tag(k)} {brief_metres(value)}" for k, value in enumerate(away))
    return Question(text, pair, f"{_tag(near)} is closer to the camera.", str(near), "closer", steps)


def _inside(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The step a count is made of."""
    goods, buffers = scene.of_kind("pallet") + scene.of_kind("transporter"), scene.of_kind("buffer")
    if not goods or not buffers:
        return None
    buffer = pick(rng, buffers)
    wanted = rng.random() < 0.5
    goods = [thing for thing in goods if in_buffer(thing, buffer) == wanted]
    if not goods:
        return None
    thing = pick(rng, goods)
    name = NAMES[thing.kind]
    text = pick(rng, ("Is the {n} <mask> inside the buffer region <mask>?", "Does the {n} <mask> stand in the buffer region <mask>?"))
    text = text.format(n=name)
    answer = f"The {name} [Region 0] is {'inside' if wanted else 'outside'} the buffer region [Region 1]."
    short = "in" if wanted else "out"
    return Question(text, [thing, buffer], answer, short, "inside", "[Region 0][Region 1]")


# One question about many regions: ten facts for the price of one picture and one prompt. Their answers are lists, and are not scored.


def _survey(kind: str, text: str, things: list[SceneObject], values: Sequence[str], sentence: str) -> Question:
    """values: a fact per leading thing (an anchor may follow); sentence: how to say it, of {r} and {v}."""
    said = " ".join(sentence.format(r=_tag(k), v=value) for k, value in enumerate(values))
    anchor = _tag(len(values)) if len(things) > len(values) else ""
    return Question(text, things, said, None, kind, ", ".join(f"{_tag(k)}{anchor} {value}" for k, value in enumerate(values)))


def _several(scene: Scene, rng: np.random.Generator, pool: Sequence[SceneObject] | None = None) -> list[SceneObject]:
    return shuffled(scene.regions if pool is None else pool, rng)[: int(rng.integers(3, 11))]


def _positions(scene: Scene, rng: np.random.Generator) -> Question | None:
    things = _several(scene, rng)
    text = pick(rng, ("Where in the image are {m}?", "What are the positions of {m} in the image?")).format(m=_masks(len(things)))
    size = (scene.camera.width, scene.camera.height)
    values = [" ".join(f"{_percent(xy / side):02d}" for xy, side in zip(thing.image_xy, size, strict=True)) for thing in things]
    return _survey("positions", text, things, values, "{r} is at {v} percent of the width and height.")


def _depths(scene: Scene, rng: np.random.Generator) -> Question | None:
    things = _several(scene, rng)
    text = pick(rng, ("How far are {m} from the camera?", "What are the distances of {m} from the camera?")).format(m=_masks(len(things)))
    values = [brief_metres(float(np.linalg.norm(thing.camera_center_m))) for thing in things]
    return _survey("depths", text, things, values, "{r} is {v} meters from the camera.")


def _kinds(scene: Scene, rng: np.random.Generator) -> Question | None:
    things = _several(scene, rng)
    text = pick(rng, ("What are {m}?", "What kinds of objects are {m}?")).format(m=_masks(len(things)))
    return _survey("kinds", text, things, [_full_name(thing) for thing in things], "{r} is a {v}.")


def _loads(scene: Scene, rng: np.random.Generator) -> Question | None:
    things = shuffled(scene.of_kind("transporter"), rng)
    if not things:
        return None
    text = pick(rng, ("Are the transporters {m} loaded or empty?", "Which of the transporters {m} carry a load?"))
    values = ["loaded" if thing.loaded else "empty" for thing in things]
    return _survey("loads", text.format(m=_masks(len(things))), things, values, "{r} is {v}.")


def _distances(scene: Scene, rng: np.random.Generator) -> Question | None:
    found = _several(scene, rng, scene.of_kind("pallet") + scene.of_kind("buffer") + scene.of_kind("transporter"))
    if len(found) < 2:
        return None
    anchor, *things = found
    text = pick(rng, ("How far are {m} from the {a} <mask>?", "What are the distances from {m} to the {a} <mask>?"))
    text = text.format(m=_masks(len(things)), a=NAMES[anchor.kind])
    values = [brief_metres(distance_m(thing, anchor)) for thing in things]
    return _survey("distances", text, [*things, anchor], values, f"{{r}} is {{v}} meters from {_tag(len(things))}.")


def _sides(scene: Scene, rng: np.random.Generator) -> Question | None:
    found = _several(scene, rng)
    if not found:
        return None
    anchor = found[0]
    things = [thing for thing in found[1:] if by_side(scene, [thing, anchor]) is not None]
    if not things:
        return None
    text = pick(
        rng, ("Are {m} to the left or right of the {a} <mask>?", "On which side of the {a} in the last mask are {m}? It is <mask>.")
    )
    text = text.format(m=_masks(len(things)), a=NAMES[anchor.kind])
    values = ["left" if thing.image_xy[0] < anchor.image_xy[0] else "right" for thing in things]
    return _survey("sides", text, [*things, anchor], values, f"{{r}} is to the {{v}} of {_tag(len(things))}.")


def _insides(scene: Scene, rng: np.random.Generator) -> Question | None:
    things, buffers = _several(scene, rng, scene.of_kind("pallet") + scene.of_kind("transporter")), scene.of_kind("buffer")
    if not things or not buffers:
        return None
    buffer = pick(rng, buffers)
    text = pick(rng, ("Which of {m} are inside the buffer region <mask>?", "Are {m} in or out of the buffer region <mask>?"))
    values = ["in" if in_buffer(thing, buffer) else "out" for thing in things]
    tag = _tag(len(things))
    return _survey("insides", text.format(m=_masks(len(things))), [*things, buffer], values, f"{{r}} is {{v}} of the buffer region {tag}.")


def _width_of(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = _one(scene, rng)
    metres = across_m(thing)
    name = NAMES[thing.kind]
    text = pick(rng, (f"How wide is the {name} <mask>?", f"What is the width of the {name} <mask>?"))
    return Question(text, [thing], f"The width of the {name} [Region 0] is {metres:.2f} meters.", metres, "width", "[Region 0]")


def _height_of(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = _one(scene, rng)
    metres = up_m(thing)
    if metres is None:
        return None
    name = NAMES[thing.kind]
    text = pick(rng, (f"How tall is the {name} <mask>?", f"What is the height of the {name} <mask>?"))
    return Question(text, [thing], f"The height of the {name} [Region 0] is {metres:.2f} meters.", metres, "height", "[Region 0]")


def _tops_apart(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Vertical distance between the middles."""
    pair = shuffled([thing for thing in scene.regions if thing.kind != "buffer"], rng)[:2]
    if len(pair) < 2:
        return None
    metres = vertical_m(*pair)
    if metres < LEAST_APART_M:
        return None
    a, b = (f"the {NAMES[thing.kind]}" for thing in pair)
    text = f"What is the vertical distance between {a} <mask> and {b} <mask>?"
    answer = f"The vertical distance between {a} [Region 0] and {b} [Region 1] is {metres:.2f} meters."
    return Question(text, pair, answer, metres, "vertical")


def _behind(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Farther along the floor from the camera is behind."""
    pair = shuffled(scene.regions, rng)[:2]
    away = [float(np.linalg.norm(thing.center_m[:2] - scene.pose.position[:2])) for thing in pair]
    if len(pair) < 2 or abs(away[0] - away[1]) < 0.5:
        return None
    side = "behind" if away[0] > away[1] else "in front of"
    a, b = (NAMES[thing.kind] for thing in pair)
    text = f"Is the {a} <mask> behind or in front of the {b} <mask>?"
    return Question(text, pair, f"The {a} [Region 0] is {side} the {b} [Region 1].", side, "behind")


def _above(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Higher in the picture."""
    pair = shuffled(scene.regions, rng)[:2]
    if len(pair) < 2 or abs(pair[0].image_xy[1] - pair[1].image_xy[1]) < SIDE_MARGIN * scene.camera.height:
        return None
    side = "above" if pair[0].image_xy[1] < pair[1].image_xy[1] else "below"
    a, b = (NAMES[thing.kind] for thing in pair)
    text = f"In the image, does the {a} <mask> appear above or below the {b} <mask>?"
    return Question(text, pair, f"The {a} [Region 0] is {side} the {b} [Region 1] in the image.", side, "above")


_OFFICIAL_MAKERS: dict[str, list[tuple[float, Maker]]] = {
    "left_right": [(1.0, _left_right)],
    "count": [(0.85, _count), (0.15, _count_by_shelf)],
    "mcq": [(0.22, _extreme_of_three), (0.68, _pickup), (0.1, _buffer_by_shelf)],
    "distance": [
        (0.6, _pair_distance),
        (0.12, _transporter_to_buffer),
        (0.14, _pallet_to_buffer),
        (0.1, _pallets_apart),
        (0.04, _pallet_to_shelf),
    ],
}
_WARMUP_MAKERS: dict[str, list[tuple[float, Maker]]] = {
    "single": [(0.25, _what), (0.35, _where), (0.4, _from_camera)],
    "size": [(0.5, _width_of), (0.5, _height_of)],
    "pair": [(0.4, _closer), (0.6, _left_right)],
    "inside": [(1.0, _inside)],
    "distance": [(1.0, _pair_distance)],
    "survey": [(0.15, _positions), (0.1, _depths), (0.1, _kinds), (0.25, _distances), (0.1, _sides), (0.15, _insides), (0.15, _loads)],
}
_EXTRA_MAKERS: dict[str, list[tuple[float, Maker]]] = {
    "width": [(1.0, _width_of)],
    "height": [(1.0, _height_of)],
    "vertical": [(1.0, _tops_apart)],
    "behind": [(1.0, _behind)],
    "above": [(1.0, _above)],
}
