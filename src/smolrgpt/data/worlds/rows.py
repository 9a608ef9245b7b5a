"""Questions about a scene as rows of the official data set, and as samples in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from smolrgpt.data.worlds.question_sets import scene_questions
from smolrgpt.data.worlds.scene import Scene
from smolrgpt.schema import DepthMap, Sample, Truth
from smolrgpt.schema.scene_graph import round_length
from smolrgpt.tasks.question import Question

#: Share of the rows whose question starts with the image placeholder.
_IMAGE_FIRST_SHARE = 0.75


def to_row(question: Question, image: str, metadata: dict[str, Any], key: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return the official record of a question; the id is a hash of ``key``, ``metadata`` describes the scene."""
    head = "<image>\n" if rng.random() < _IMAGE_FIRST_SHARE else ""
    return {
        "id": hash_id(key.encode()),
        "image": image,
        "conversations": [{"from": "human", "value": head + question.text}, {"from": "gpt", "value": question.answer}],
        "rle": [item.region.to_rle() for item in question.objects],
        "category": question.category,
        "normalized_answer": question.normalized_answer,
        "freeform_answer": question.answer,
        **metadata,
        **asdict(_truth(question)),
    }


def to_samples(scene: Scene, questions: Sequence[Question], key: str) -> list[Sample]:
    """Return samples in memory with metric depth and camera; they share one image, which ``key`` names."""
    image, depth = Image.fromarray(scene.rgb), DepthMap(scene.depth_m, "metric")
    return [
        Sample(
            id=f"{key}-{number}",
            image=image,
            question=question.text,
            regions=[item.region for item in question.objects],
            depth=depth,
            camera=scene.camera,
            answer=question.answer,
            normalized_answer=question.normalized_answer,
            category=question.category,
            image_key=key,
            truth=_truth(question),
            metadata=scene.metadata,
        )
        for number, question in enumerate(questions)
    ]


def scene_samples(scene: Scene, n: int, rng: np.random.Generator, key: str | None = None) -> list[Sample]:
    """Return at most n official questions as samples; ``key`` names the image, by default a hash of it."""
    return to_samples(scene, scene_questions(scene.graph, rng, n), key or hash_id(scene.rgb.tobytes()))


def hash_id(content: bytes) -> str:
    """Return 32 hexadecimal digits that identify the content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _truth(question: Question) -> Truth:
    """Return the steps and each region's 3-D box, in metres, unless one is drawn. Centres have more digits than lengths."""
    if any(item.drawn_box is not None for item in question.objects):
        return Truth(question.steps)
    centers = [[round_length(float(metres), 2 * item.digits) for metres in item.center_m] for item in question.objects]
    sizes = tuple((item.width_m, item.height_m) for item in question.objects)
    return Truth(question.steps, tuple((x, y, z) for x, y, z in centers), sizes)
