"""Further lengths: distances from the camera and along the floor, and differences of two lengths."""

from __future__ import annotations

import numpy as np

from smolrgpt.schema import SceneGraph
from smolrgpt.schema.scene_graph import round_length
from smolrgpt.tasks.base import STEP_REGION, Cue, CueRank, ReplySchema
from smolrgpt.tasks.distance import LengthTask
from smolrgpt.tasks.draft import Draft, makers_of
from smolrgpt.tasks.drawing import draw_one, pick, shuffled
from smolrgpt.tasks.measures import PLAIN_LENGTHS, RANGE, clear_ratio, draw_measured_pair, metres
from smolrgpt.tasks.relations import between_middles_m, distance_m
from smolrgpt.tasks.units import SIGNIFICANT_DIGITS

#: A difference is asked where the greater length is at least this multiple of the other: less is lost in the errors of both.
DIFFERENCE_RATIO = 1.25
#: Two objects are apart along the floor when that is at least this share of their distance.
_ALONG_SHARE = 0.1


def _draw_camera_distance(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    item = draw_one(graph, rng)
    value = RANGE.value(graph, item)
    if value is None:
        return None
    return Draft(
        "camera_distances",
        {"a": item},
        round_length(value, SIGNIFICANT_DIGITS),
        lambda tag: f"{RANGE.state_one(tag(item), value)}.",
        lambda tag: f"{tag(item)} {RANGE.word}",
    )


def _draw_horizontal(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    pair = shuffled(graph.objects, rng)[:2]
    if len(pair) < 2 or not graph.has_plane:
        return None
    a, b = pair
    value = float(np.linalg.norm((a.center_m - b.center_m)[:2]))
    if distance_m(a, b) == 0 or value < _ALONG_SHARE * between_middles_m(a, b):
        return None
    return Draft(
        "horizontals",
        {"a": a, "b": b},
        round_length(value, SIGNIFICANT_DIGITS),
        lambda tag: f"the horizontal distance between {tag(a)} and {tag(b)} is {metres(value)}.",
        lambda tag: f"{tag(a)}{tag(b)} across",
    )


def _draw_difference(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    drawn = draw_measured_pair(graph, rng, PLAIN_LENGTHS, DIFFERENCE_RATIO)
    if drawn is None:
        return None
    measure, pair, lengths = drawn
    pole = pick(rng, measure.poles)
    (b, y), (a, x) = sorted(zip(pair, lengths, strict=True), key=lambda entry: entry[1], reverse=pole is measure.less)
    return Draft(
        "differences",
        {"a": a, "b": b, "more": pick(rng, pole.comparatives)},
        round_length(abs(x - y), SIGNIFICANT_DIGITS),
        lambda tag: f"{measure.state(tag(a), x, tag(b), y)}, so the difference is {metres(abs(x - y))}.",
        lambda tag: f"{tag(b)} {measure.word} [Length], {tag(a)} {measure.word} [Length] difference",
    )


def _draw_farther_of_three(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    found = shuffled(graph.objects, rng)[:3]
    if len(found) < 3 or not all(distance_m(found[0], item) for item in found[1:]):
        return None
    a, *others = found
    b, c = sorted(others, key=lambda item: between_middles_m(a, item))
    near, far = between_middles_m(a, b), between_middles_m(a, c)
    if clear_ratio(near, far) < DIFFERENCE_RATIO:
        return None
    return Draft(
        "farther_of_three",
        {"a": a, "b": b, "c": c},
        round_length(far - near, SIGNIFICANT_DIGITS),
        lambda tag: f"{tag(a)} is {metres(near)} from {tag(b)} and {metres(far)} from {tag(c)}, so the difference is {metres(far - near)}.",
        lambda tag: f"{tag(a)}{tag(b)} [Length], {tag(a)}{tag(c)} [Length] difference",
    )


#: The camera itself, not "the camera bag <mask>".
_CAMERA = (
    r"(?:(?:the |this |our |your )?(?:camera|viewer|observer|viewpoint|photographer|lens|sensor|place of the photo)"
    r"|(?:from|to) (?:us|me|you))\b"
    r"(?! (?:(?!is\b|are\b|to\b|and\b|does\b)\w+ )?(?:at )?<mask>)"
)
#: One region, and nothing else after it to which its distance may be meant.
_ONE = r"(?=[^<]*<mask>[^<]*$)(?![^<]*<mask>[^<]*\b(?:from|to|and) (?:the|an?|my|this|that) (?!camera|lens|sensor|viewer|observer|robot))"
_FAR = r"(?:how (?:far|distant|close|near|deep)|distan(?:ce|t)|depth|met(?:er|re)s)\b"
CAMERA_DISTANCE = LengthTask(
    name="camera_distance",
    title="distance from the camera",
    cues=(
        Cue(CueRank.EXPLICIT + 8, rf"{_FAR}.{{0,90}}\b{_CAMERA}|{_CAMERA}.{{0,80}}\b(?:how far|distance|met(?:er|re)s)\b"),
        Cue(CueRank.EXPLICIT + 8, r"(?:what|which|how much) (?:is the )?depth\b|depth of (?:\w+ ){0,3}<mask>$"),
        Cue(
            CueRank.EXPLICIT + 8,
            rf"^{_ONE}(?:.*\b)?(?:how far (?:away|off|is it)|from here|(?:distance|range) (?:to|of)|met(?:er|re)s (?:away|is it))\b",
        ),
    ),
    reply=ReplySchema("metres", float, "The distance from the camera in metres."),
    steps_pattern=f"{STEP_REGION} {RANGE.word}",
    is_extra=True,
    **makers_of("camera_distance", "compare", (1.0, _draw_camera_distance)),
)
HORIZONTAL = LengthTask(
    name="horizontal",
    title="horizontal distance",
    cues=(
        Cue(CueRank.EXPLICIT + 5, r"horizontal(?:ly)?\b(?! (?:position|width|size))(?!.*\b(?:left|right)\b)"),
        Cue(CueRank.EXPLICIT + 5, r"(?:along|across|on|over) the (?:floor|ground|plane)\b.*\b(?:far|distance|apart|met(?:er|re)s)\b"),
        Cue(CueRank.EXPLICIT + 5, r"(?:far|distance|apart|met(?:er|re)s)\b.*\b(?:along|across|measured on) the (?:floor|ground|plane)\b"),
    ),
    reply=ReplySchema("metres", float, "The horizontal distance in metres."),
    steps_pattern=f"{STEP_REGION}{STEP_REGION} across",
    is_extra=True,
    **makers_of("horizontal", "compare", (1.0, _draw_horizontal)),
)
_DIFFERS = r"(?:taller|shorter|wider|broader|narrower|thinner|closer|nearer|farther|further|more distant)"
DIFFERENCE = LengthTask(
    name="difference",
    title="difference of two lengths",
    cues=(
        Cue(CueRank.EXPLICIT + 1, rf"how (?:much|far|long|many \w+) (?:\w+ )?{_DIFFERS}|by how much\b.*\b{_DIFFERS}"),
        Cue(CueRank.EXPLICIT + 1, rf"by (?:how many|what|which) \w+\b.*\b{_DIFFERS}|{_DIFFERS}\b.*\bby how (?:much|many)\b"),
        Cue(CueRank.EXPLICIT + 1, rf"(?:met(?:er|re)s|cm|feet|inches) {_DIFFERS}"),
        Cue(CueRank.EXPLICIT + 1, r"difference (?:in|of|between the) (?:widths?|their distances?|the distances?)\b"),
    ),
    reply=ReplySchema("metres", float, "The difference in metres."),
    steps_pattern=".* difference",
    is_extra=True,
    **makers_of("difference", "compare", (0.7, _draw_difference), (0.3, _draw_farther_of_three)),
)
