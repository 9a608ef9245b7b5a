"""The measures that questions compare, in one table: what a measure is of an object, and the words in which people compare it.

Whatever compares sizes, heights or distances from the camera is made from this table. Legend: a pole is one of the two ends of a measure,
such as tall and short.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.base import STEP_REGION
from smolrgpt.tasks.drawing import pick, shuffled
from smolrgpt.tasks.given_lengths import write_metres

#: Two lengths are compared when the greater one is at least this multiple of the other, and so is a length with a given one.
CLEAR_RATIO = 1.10
#: The first of several must be ahead of the second by this ratio.
CLEAR_FIRST_RATIO = 1.15


@dataclass(frozen=True)
class Pole:
    """One end of a measure: the words for more (or less) of it.

    Attributes:
        word: how steps compare two objects: "taller".
        most: how steps name the first of several: "tallest".
        comparatives: what stands between "is" and "than".
        superlatives: what stands behind "the".
        amounts: what stands between "has" and "than".
        spelling: a regular expression of all comparatives and places, as ``recognition.plain_words`` writes them.
        superlative_spelling: the same of the superlatives.
        places: the relation to another object, where there is one: "behind".
    """

    word: str
    most: str
    comparatives: tuple[str, ...]
    superlatives: tuple[str, ...]
    amounts: tuple[str, ...]
    spelling: str
    superlative_spelling: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measure:
    """A length of one object.

    Attributes:
        word: its name in steps, and in questions about it.
        value: its value in metres (> 0); None where the graph does not tell it.
        more: the pole of greater values.
        less: the pole of smaller values.
        states: a sentence that states the values x and y of the objects a and b.
        is_plain_length: people give it in metres, so that questions may name a length or ask for a difference.
    """

    word: str
    value: Callable[[SceneGraph, SceneObject], float | None]
    more: Pole
    less: Pole
    states: str
    is_plain_length: bool = True

    @property
    def poles(self) -> tuple[Pole, Pole]:
        """The pole of more and the pole of less."""
        return self.more, self.less

    def compare(self, first: float, second: float) -> str:
        """Return the word of the pole that the first of two values has against the second."""
        return self.more.word if first > second else self.less.word

    def opposite(self, pole: Pole) -> Pole:
        """Return the other pole."""
        return self.less if pole is self.more else self.more

    def state(self, a: str, x: float, b: str, y: float) -> str:
        """Return the values of two objects, named by their tags, as a text: "[Region 0] is 0.820 m high, [Region 1] 1.10 m"."""
        return self.states.format(a=a, b=b, x=metres(x), y=metres(y))

    def state_one(self, a: str, x: float) -> str:
        """Return the value of one object as a text: "[Region 0] is 0.820 m high"."""
        return self.states.partition(",")[0].format(a=a, x=metres(x))


def metres(value: float) -> str:
    """Return a length (> 0) with three significant digits and its unit."""
    return f"{write_metres(value)} m"


def clear_ratio(first: float, second: float) -> float:
    """Return how many times the smaller of two lengths (> 0) the greater one is."""
    return max(first, second) / min(first, second)


# ---------------------------------------------------------------------------------------------------------------------------- values
def _height_m(graph: SceneGraph, item: SceneObject) -> float | None:
    return float(item.size_m[2]) if graph.has_plane and not item.is_flat and item.size_m[2] > 0 else None


def _width_m(graph: SceneGraph, item: SceneObject) -> float | None:
    width = float(max(item.size_m[:2]))
    return width if graph.has_plane and width > 0 else None


def _size_m(graph: SceneGraph, item: SceneObject) -> float | None:
    volume = float(np.prod(item.size_m))
    return volume ** (1 / 3) if graph.has_plane and not item.is_flat and volume > 0 else None


def _elevation_m(graph: SceneGraph, item: SceneObject) -> float | None:
    above = float(item.center_m[2])
    return above if graph.has_plane and not item.is_flat and above > 0 else None


def _range_m(graph: SceneGraph, item: SceneObject) -> float | None:
    return graph.camera_distance_m(item) or None


# ----------------------------------------------------------------------------------------------------------------------------- table
#: "The smallest distance" is that of two objects.
_NO_DISTANCE = r"(?! (?:distance|gap|way|path|separation))"

HEIGHT = Measure(
    "height",
    _height_m,
    Pole(
        "taller",
        "tallest",
        comparatives=("taller",),
        superlatives=("tallest",),
        amounts=("more height", "a greater height"),
        spelling=r"taller|(?:more|greater|larger) height",
        superlative_spelling=r"tallest",
    ),
    Pole(
        "shorter",
        "shortest",
        comparatives=("shorter",),
        superlatives=("shortest",),
        amounts=("less height", "a smaller height"),
        spelling=rf"shorter{_NO_DISTANCE}|(?:less|lesser|smaller|lower) height",
        superlative_spelling=rf"(?<!way the )shortest{_NO_DISTANCE}",
    ),
    "{a} is {x} high, {b} {y}",
)
WIDTH = Measure(
    "width",
    _width_m,
    Pole(
        "wider",
        "widest",
        comparatives=("wider", "broader"),
        superlatives=("widest", "broadest"),
        amounts=("more width", "a greater width"),
        spelling=r"wider|broader|(?:more|greater|larger) width",
        superlative_spelling=r"widest|broadest",
    ),
    Pole(
        "narrower",
        "narrowest",
        comparatives=("narrower", "thinner"),
        superlatives=("narrowest", "thinnest"),
        amounts=("less width", "a smaller width"),
        spelling=r"narrower|thinner|(?:less|lesser|smaller) width",
        superlative_spelling=r"narrowest|thinnest",
    ),
    "{a} is {x} wide, {b} {y}",
)
SIZE = Measure(
    "size",
    _size_m,
    Pole(
        "bigger",
        "biggest",
        comparatives=("bigger", "larger"),
        superlatives=("biggest", "largest"),
        amounts=("a larger size", "more volume"),
        spelling=rf"(?:bigger|larger){_NO_DISTANCE}|(?:more|greater) (?:size|volume)",
        superlative_spelling=rf"(?:biggest|largest){_NO_DISTANCE}",
    ),
    Pole(
        "smaller",
        "smallest",
        comparatives=("smaller",),
        superlatives=("smallest",),
        amounts=("a smaller size", "less volume"),
        spelling=rf"smaller{_NO_DISTANCE}|less(?:er)? (?:size|volume)",
        superlative_spelling=rf"smallest{_NO_DISTANCE}",
    ),
    "{a} measures {x} on average, {b} {y}",
    is_plain_length=False,
)
ELEVATION = Measure(
    "elevation",
    _elevation_m,
    Pole(
        "higher",
        "highest",
        comparatives=("higher", "higher up"),
        superlatives=("highest",),
        amounts=("a higher position",),
        places=("above",),
        spelling=r"higher|above|over(?! (?:there|to|on|at) )(?= (?:\w+ ){0,4}<mask>)",
        superlative_spelling=r"highest|topmost",
    ),
    Pole(
        "lower",
        "lowest",
        comparatives=("lower", "lower down"),
        superlatives=("lowest",),
        amounts=("a lower position",),
        places=("below",),
        spelling=r"lower|below|under(?:neath)?|beneath",
        superlative_spelling=r"lowest|bottommost",
    ),
    "the middle of {a} is {x} up, that of {b} {y}",
    is_plain_length=False,
)
_TO_VIEWER = r"(?: away)? (?:from|to) (?:(?:the|a|this) )?(?:camera|viewer|observer|lens|viewpoint|us|me|you)\b"
#: What stands behind "closer" where no other object is meant that something is closer to.
_NO_ANCHOR = rf"(?={_TO_VIEWER}| than | or | <mask>|$)"
RANGE = Measure(
    "range",
    _range_m,
    Pole(
        "farther",
        "farthest",
        comparatives=("farther from the camera", "farther away from the camera", "more distant from the camera"),
        superlatives=("farthest from the camera", "most distant from the camera"),
        amounts=("a greater distance from the camera",),
        places=("behind",),
        spelling=rf"(?:farther|further|more (?:distant|remote)){_NO_ANCHOR}|behind|greater distance from the",
        superlative_spelling=rf"(?:farthest|furthest|most distant)(?={_TO_VIEWER}|$)",
    ),
    Pole(
        "nearer",
        "nearest",
        comparatives=("closer to the camera", "nearer to the camera"),
        superlatives=("nearest to the camera", "closest to the camera"),
        amounts=("a smaller distance from the camera",),
        places=("in front of",),
        spelling=rf"(?:closer|nearer|less distant){_NO_ANCHOR}|in front|before(?= (?:\w+ ){{0,3}}<mask>)|smaller distance from the",
        superlative_spelling=rf"(?:nearest|closest){_TO_VIEWER}",
    ),
    "{a} is {x} from the camera, {b} {y}",
)
#: The one table of what is compared.
MEASURES: tuple[Measure, ...] = (HEIGHT, WIDTH, SIZE, ELEVATION, RANGE)
#: What a question may give a length of, or ask a difference of. How much higher one object is than another is their vertical distance.
PLAIN_LENGTHS = tuple(measure for measure in MEASURES if measure.is_plain_length)
#: A length of one object in steps, as a regular expression.
STEP_MEASURE = rf"{STEP_REGION} (?:{'|'.join(measure.word for measure in MEASURES)})"
#: All words that compare two objects, and all that pick one of several, as ``recognition.plain_words`` writes them.
COMPARATIVE = f"(?:{'|'.join(pole.spelling for measure in MEASURES for pole in measure.poles)})(?!\\w)"
SUPERLATIVE = f"(?:{'|'.join(pole.superlative_spelling for measure in MEASURES for pole in measure.poles)})(?!\\w)"


def asked_pole(text: str) -> tuple[Measure, Pole] | None:
    """Return the measure and the pole that a text (of ``recognition.plain_words``) compares by first; None where it compares nothing."""
    spelled = [
        (found.start(), -len(found[0]), number, measure, pole)
        for number, (measure, pole) in enumerate((measure, pole) for measure in MEASURES for pole in measure.poles)
        if (found := re.search(rf"\b(?:{pole.spelling}|{pole.superlative_spelling})", text))
    ]
    return min(spelled, key=lambda entry: entry[:3])[3:] if spelled else None


# ----------------------------------------------------------------------------------------------------------------------------- draws
def measured_objects(graph: SceneGraph, measure: Measure) -> list[tuple[SceneObject, float]]:
    """Return the objects that have the measure, with their values in metres."""
    values = [(item, measure.value(graph, item)) for item in graph.objects]
    return [(item, value) for item, value in values if value is not None]


def draw_measured_pair(
    graph: SceneGraph, rng: np.random.Generator, measures: Sequence[Measure], ratio: float = CLEAR_RATIO
) -> tuple[Measure, list[SceneObject], list[float]] | None:
    """Return a measure, two objects in random order and their values, which differ clearly; None where the first draw does not."""
    measure = pick(rng, measures)
    pair = shuffled(measured_objects(graph, measure), rng)[:2]
    if len(pair) < 2 or clear_ratio(pair[0][1], pair[1][1]) < ratio:
        return None
    return measure, [item for item, _ in pair], [value for _, value in pair]
