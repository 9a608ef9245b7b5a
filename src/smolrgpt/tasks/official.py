"""The question forms of the official warehouse data set, as frames with slots.

The data set is NVIDIA's PhysicalAI-Spatial-Intelligence-Warehouse (CC-BY-4.0).
``wordings/official.json`` holds, for each category, groups of frames that ask for the same relation. A group's frames, each with every
combination of its sides, are the templates of the data set: 27 of left_right, 84 of count, 73 of mcq and 228 of distance. The oddities
of the data set are kept: "left most", a capital "Which" within a sentence, and "From leftmostthe given buffer masks ... in the left
buffer zone", which asks about the buffer that is named before "the".
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.question import Question, capitalized, mask_placeholders

#: Slots of a frame that hold an object with its noun, a list of masks, and a single mask.
OBJECT_SLOTS = ("a", "b", "c")
LIST_SLOTS = ("buffers", "pallets", "shelves", "transporters")
MASK_SLOTS = ("shelf", "transporter")
_OBJECT = re.compile(r"\b(?:the )?(?:shelf|shelves|transporter) \[MASKS\]")


@dataclass(frozen=True)
class OfficialForm:
    """One sentence pattern of the official data set, with slots for objects and its sides filled in.

    Attributes:
        category: the data set's category: left_right, count, mcq or distance.
        relation: what has to be found in the scene, such as ``pallet_to_shelf``; unique within a category.
        frame: the sentence with ``{slots}`` for objects and masks; the sides are filled in.
        sides: slot -> the words of the side, such as "leftmost", "left-hand", "left or right"; empty where the form has none.
    """

    category: str
    relation: str
    frame: str
    sides: Mapping[str, str]

    def extreme(self, slot: str = "side") -> str:
        """Return the object that the words of a side name: "leftmost", "rightmost" or "middle"; empty where the form has no such side."""
        if slot not in self.sides:
            return ""
        word = re.split(r"\W", self.sides[slot])[0].removesuffix("most")
        return word if word == "middle" else word + "most"

    @property
    def template(self) -> str:
        """The form as the data set's statistics write it: OBJ for "the <noun> <mask>", [MASKS] for masks alone."""
        slots = dict.fromkeys(OBJECT_SLOTS, "OBJ") | dict.fromkeys(LIST_SLOTS + MASK_SLOTS, "[MASKS]")
        return _OBJECT.sub("OBJ", self.frame.format(**slots))


#: Asks one official form about a scene, or None where the drawn facts give no clear question.
FormMaker = Callable[[SceneGraph, np.random.Generator, OfficialForm], Question | None]


@functools.cache
def synthetic_frames(name: str) -> tuple[str, ...]:
    """Return the official sentences in which the main file of a synthetic set asks one kind of question; ``name``: see the file.

    Their order decides which one a random number picks.
    """
    return tuple(_read("synthetic.json")[name])


@functools.cache
def official_forms() -> tuple[OfficialForm, ...]:
    """Return all official question forms, in the order of the file."""
    return tuple(
        OfficialForm(category, group["relation"], _with_sides(frame, sides), sides)
        for category, members in _read("official.json").items()
        for group in members
        for frame in group["frames"]
        for sides in _combinations(group["sides"])
    )


@functools.cache
def _read(file: str) -> dict[str, list[Any]]:
    return cast("dict[str, list[Any]]", json.loads((Path(__file__).parent / "wordings" / file).read_text(encoding="utf-8")))


def _combinations(sides: Mapping[str, list[str]]) -> list[dict[str, str]]:
    return [dict(zip(sides, words, strict=True)) for words in itertools.product(*sides.values())]


def _with_sides(frame: str, sides: Mapping[str, str]) -> str:
    for slot, words in sides.items():
        frame = frame.replace(f"{{{slot}}}", words)
    return frame


def fill_frame(frame: str, **slots: SceneObject | Sequence[SceneObject]) -> tuple[str, list[SceneObject]]:
    """Return the question that a frame asks about these objects, and the objects in the order in which it marks them."""
    text, objects = "", []
    for literal, name, _, _ in string.Formatter().parse(frame):
        text += literal
        if name is None:
            continue
        content = slots[name]
        items = [content] if isinstance(content, SceneObject) else list(content)
        objects += items
        text += f"the {items[0].name} {mask_placeholders(1)}" if name in OBJECT_SLOTS else mask_placeholders(len(items))
    return capitalized(text), objects
