"""One-paragraph descriptions of a scene, for aligning pictures with words."""

from __future__ import annotations

from typing import Any

import numpy as np

from smolrgpt.data.worlds.questions import NAMES, WORDS, in_buffer
from smolrgpt.data.worlds.scene import Scene, SceneObject

_REQUESTS = ("Describe the image.", "What does the image show?", "Give a short description of this scene.", "Summarize the visual content.")

_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


def caption(scene: Scene) -> str:
    """What is in sight, how many pallets each buffer holds from left to right, and where the transporters are."""
    counts = {kind: len(scene.of_kind(kind)) for kind in ("buffer", "pallet", "transporter", "shelf")}
    parts = [_amount(count, NAMES[kind]) for kind, count in counts.items() if count]
    sentences = [f"A warehouse with {_listed(parts)}." if parts else "A warehouse."]
    buffers = sorted(scene.of_kind("buffer"), key=lambda thing: thing.image_xy[0])
    for name, buffer in zip(_order_names(len(buffers)), buffers, strict=True):
        held = sum(in_buffer(pallet, buffer) for pallet in scene.of_kind("pallet"))
        sentences.append(f"The {name} holds {_amount(held, 'pallet') if held else 'no pallets'}.")
    for carrier in sorted(scene.of_kind("transporter"), key=lambda thing: thing.image_xy[0]):
        state = "A loaded" if carrier.loaded else "An empty"
        sentences.append(f"{state} transporter is {_place(carrier, scene)}.")
    for shelf in scene.of_kind("shelf"):
        sentences.append(f"A shelf is {_place(shelf, scene)}.")
    return " ".join(sentences)


def caption_row(scene: Scene, image: str, identifier: str, rng: np.random.Generator) -> dict[str, Any]:
    """A record in the official form, without regions."""
    request, text = _REQUESTS[int(rng.integers(len(_REQUESTS)))], caption(scene)
    turn = f"<image>\n{request}" if rng.random() < 0.5 else f"{request}\n<image>"
    return {
        "id": identifier,
        "image": image,
        "conversations": [{"from": "human", "value": turn}, {"from": "gpt", "value": text}],
        "rle": [],
        "category": "caption",
        "normalized_answer": text,
        "freeform_answer": text,
        "layout": scene.layout,
    }


def _amount(count: int, name: str) -> str:
    plural = {"shelf": "shelves"}.get(name, name + "s")
    return f"{WORDS[count] if count < len(WORDS) else count} {name if count == 1 else plural}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _order_names(count: int) -> list[str]:
    if count < 2:
        return ["buffer region"] * count
    between = ["middle"] if count == 3 else _ORDINALS[: count - 2]
    middle = [f"{word} buffer region" + ("" if count == 3 else " from the left") for word in between]
    return ["leftmost buffer region", *middle, "rightmost buffer region"]


def _place(thing: SceneObject, scene: Scene) -> str:
    across = ("on the left", "in the middle", "on the right")[min(int(3 * thing.image_xy[0] / scene.camera.width), 2)]
    depth = ("in the back", "halfway back", "in the front")[min(int(3 * thing.image_xy[1] / scene.camera.height), 2)]
    return f"{across}, {depth}"
