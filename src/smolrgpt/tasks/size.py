"""Size questions (width, height, vertical distance): lengths of one object or two. The warehouse score has none of them."""

from __future__ import annotations

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject, Wording
from smolrgpt.tasks.base import STEP_REGION, Cue, CueRank, ReplySchema
from smolrgpt.tasks.distance import LengthTask
from smolrgpt.tasks.drawing import draw_one, pick, shuffled
from smolrgpt.tasks.question import Question, format_metres, region_tags
from smolrgpt.tasks.relations import MIN_VERTICAL_M, vertical_distance_m
from smolrgpt.tasks.wording import ask_in_words


# ---------------------------------------------------------------------------------------------------------------------- questions
def ask_width(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask how wide an object is: its longer side along the supporting plane."""
    if not graph.has_plane:
        return None
    item = draw_one(graph, rng)
    text = pick(rng, (f"How wide is the {item.name} <mask>?", f"What is the width of the {item.name} <mask>?"))
    return _length_question(text, item, WIDTH.name, item.width_m)


def ask_height(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask how tall an object is."""
    if not graph.has_plane:
        return None
    item = draw_one(graph, rng)
    metres = item.height_m
    if metres is None:
        return None
    text = pick(rng, (f"How tall is the {item.name} <mask>?", f"What is the height of the {item.name} <mask>?"))
    return _length_question(text, item, HEIGHT.name, metres)


def _length_question(text: str, item: SceneObject, category: str, metres: float) -> Question:
    answer = f"The {category} of the {item.name} [Region 0] is {format_metres(metres)} meters."
    return Question(text, [item], answer, metres, category, "[Region 0]")


def ask_vertical(graph: SceneGraph, rng: np.random.Generator) -> Question | None:
    """Ask for the vertical distance between the middles of two objects."""
    if not graph.has_plane:
        return None
    pair = shuffled([item for item in graph.objects if not item.is_flat], rng)[:2]
    if len(pair) < 2:
        return None
    metres = vertical_distance_m(*pair)
    if metres < MIN_VERTICAL_M:
        return None
    a, b = (f"the {item.name}" for item in pair)
    text = f"What is the vertical distance between {a} <mask> and {b} <mask>?"
    answer = f"The vertical distance between {a} [Region 0] and {b} [Region 1] is {format_metres(metres)} meters."
    return Question(text, pair, answer, metres, VERTICAL.name)


def ask_width_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask how wide an object is, in plain words."""
    if not graph.has_plane:
        return None
    widths = [(item, item.width_m) for item in graph.objects if item.width_m]
    return _ask_length_plainly(widths, WIDTH.name, "widths", rng, wording)


def ask_height_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask how tall an object is, in plain words."""
    if not graph.has_plane:
        return None
    heights = [(item, item.height_m) for item in graph.objects if item.height_m]
    return _ask_length_plainly(heights, HEIGHT.name, "heights", rng, wording)


def _ask_length_plainly(
    lengths: list[tuple[SceneObject, float]], category: str, asked: str, rng: np.random.Generator, wording: Wording
) -> Question | None:
    if not lengths:
        return None
    item, metres = pick(rng, lengths)
    text, _ = ask_in_words("size", asked, {"a": item}, rng, wording)
    return Question(text, [item], f"The {category} of [Region 0] is {format_metres(metres)} meters.", metres, category, "[Region 0]")


def ask_vertical_plainly(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask for the vertical distance between the middles of two objects, in plain words."""
    if not graph.has_plane:
        return None
    pair = shuffled([item for item in graph.objects if not item.is_flat], rng)[:2]
    metres = vertical_distance_m(*pair) if len(pair) == 2 else 0
    if metres < MIN_VERTICAL_M:
        return None
    text, objects = ask_in_words("size", "apart", dict(zip("ab", pair, strict=True)), rng, wording)
    return Question(
        text, objects, f"The vertical distance is {format_metres(metres)} meters.", metres, VERTICAL.name, region_tags(objects, *objects)
    )


WIDTH = LengthTask(
    name="width",
    title="width",
    cues=(
        Cue(CueRank.INTERROGATIVE, r"how (?:wide|broad) (?:is|are)\b"),
        Cue(CueRank.DIMENSION, r"(?:how|met(?:er|re)s) (?:wide|broad|long)\b|(?:wid|bread)th\b"),
        Cue(
            CueRank.DIMENSION,
            r"horizontal (?:size|dimensions?|extents?)\b|occupy horizontally\b",
        ),
        Cue(CueRank.DIMENSION, r"(?:side|left) (?:side )?to (?:its )?(?:side|right)\b"),
    ),
    reply=ReplySchema("metres", float, "The width in metres."),
    steps_pattern=f"{STEP_REGION} width",
    makers=((1.0, ask_width),),
    plain_makers=((0.35, ask_width_plainly),),
)
HEIGHT = LengthTask(
    name="height",
    title="height",
    cues=(
        Cue(CueRank.INTERROGATIVE, r"how (?:tall|high) (?:is|are)\b"),
        Cue(
            CueRank.DIMENSION,
            r"(?:how|met(?:er|re)s) (?:tall|high)\b|height\b|vertical (?:size|dimensions?|extents?)\b|occupy vertically\b",
        ),
        Cue(CueRank.DIMENSION, r"to (?:its |the )?(?:top|upper end)\b"),
    ),
    reply=ReplySchema("metres", float, "The height in metres."),
    steps_pattern=f"{STEP_REGION} height",
    makers=((1.0, ask_height),),
    plain_makers=((0.35, ask_height_plainly),),
)
VERTICAL = LengthTask(
    name="vertical",
    title="vertical distance",
    cues=(
        Cue(
            CueRank.EXPLICIT + 5,
            r"vertical(?:ly)?\b(?! (?:size|dimensions?|extents?))|how much (?:higher|lower)\b|higher or lower\b|up (?:and |or )?down\b",
        ),
        Cue(CueRank.EXPLICIT + 5, r"(?:height|elevation) difference\b|differ(?:s|ence)? (?:\w+ ){0,2}in (?:height|elevation)\b"),
        Cue(CueRank.EXPLICIT + 5, r"(?:how many |in )?(?:centi|milli)?met(?:er|re)s (?:higher|lower|further (?:up|down))\b"),
    ),
    reply=ReplySchema("metres", float, "The vertical distance in metres."),
    steps_pattern=f"{STEP_REGION}{STEP_REGION} up",
    makers=((1.0, ask_vertical),),
    plain_makers=((0.3, ask_vertical_plainly),),
)
