"""One-paragraph descriptions of a scene, for aligning images with words."""

from __future__ import annotations

from typing import Any

import numpy as np

from smolrgpt.data.worlds.rows import hash_id
from smolrgpt.data.worlds.scene import NOUNS
from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.region_text import number_word
from smolrgpt.tasks.relations import stands_in

_REQUESTS = ("Describe the image.", "What does the image show?", "Give a short description of this scene.", "Summarize the visual content.")

_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


def caption(graph: SceneGraph) -> str:
    """Return a caption: the visible objects, the pallets of each buffer from left to right, and the transporters' positions."""
    counts = {kind: len(graph.of_kind(kind)) for kind in ("buffer", "pallet", "transporter", "shelf")}
    parts = [_amount(count, NOUNS[kind]) for kind, count in counts.items() if count]
    sentences = [f"A warehouse with {_listed(parts)}." if parts else "A warehouse."]
    buffers = sorted(graph.of_kind("buffer"), key=lambda item: item.image_xy[0])
    for name, buffer in zip(_order_names(len(buffers)), buffers, strict=True):
        held = sum(stands_in(pallet, buffer) for pallet in graph.of_kind("pallet"))
        sentences.append(f"The {name} holds {_amount(held, 'pallet') if held else 'no pallets'}.")
    for carrier in sorted(graph.of_kind("transporter"), key=lambda item: item.image_xy[0]):
        state = "A loaded" if carrier.loaded else "An empty"
        sentences.append(f"{state} transporter is {_place(carrier, graph)}.")
    for shelf in graph.of_kind("shelf"):
        sentences.append(f"A shelf is {_place(shelf, graph)}.")
    return " ".join(sentences)


def caption_row(graph: SceneGraph, image: str, metadata: dict[str, Any], key: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return a record in the official form, without regions; the id is a hash of ``key``."""
    request, text = _REQUESTS[int(rng.integers(len(_REQUESTS)))], caption(graph)
    turn = f"<image>\n{request}" if rng.random() < 0.5 else f"{request}\n<image>"
    return {
        "id": hash_id(key.encode()),
        "image": image,
        "conversations": [{"from": "human", "value": turn}, {"from": "gpt", "value": text}],
        "rle": [],
        "category": "caption",
        "normalized_answer": text,
        "freeform_answer": text,
        **metadata,
    }


def _amount(count: int, name: str) -> str:
    plural = {"shelf": "shelves"}.get(name, name + "s")
    return f"{number_word(count)} {name if count == 1 else plural}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _order_names(count: int) -> list[str]:
    if count < 2:
        return ["buffer region"] * count
    between = ["middle"] if count == 3 else _ORDINALS[: count - 2]
    middle = [f"{word} buffer region" + ("" if count == 3 else " from the left") for word in between]
    return ["leftmost buffer region", *middle, "rightmost buffer region"]


def _place(item: SceneObject, graph: SceneGraph) -> str:
    column = ("on the left", "in the middle", "on the right")[min(int(3 * item.image_xy[0] / graph.camera.width), 2)]
    row = ("in the back", "halfway back", "in the front")[min(int(3 * item.image_xy[1] / graph.camera.height), 2)]
    return f"{column}, {row}"
