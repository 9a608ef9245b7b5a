"""Samples as people write them: one JSON object a line, or a folder of files as the web page saves them.

    {"image": "scene.png", "depth": "scene-depth.png", "camera": {"fx": 600, "fy": 600, "cx": 320, "cy": 240},
     "regions": [{"box": [40, 90, 110, 150]}, {"mask": "pallet.png"}, {"polygon": [..]}, {"rle": {..}}],
     "question": "How far is <region 0> from <region 1>?"}

Files are named relative to the JSON file. ``questions``, a list, asks several; ``id`` names the row (else its file and number do);
``answer``, ``normalized_answer`` and ``category`` may be there; ``depth_near`` is dark or bright, ``depth_kind`` metric or relative.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import DEPTH_KIND, DEPTH_NEAR, SkipLog
from smolrgpt.data.sources.rows import Missing, field, iter_samples
from smolrgpt.schema import Camera, DataError, Region, Sample, brief
from smolrgpt.schema.image_file import image_size
from smolrgpt.tasks.region_text import REGION_NUMBERS, read_mentions


def iter_sample_rows(root: Path | str, split: str = "", *, skips: SkipLog) -> Iterator[Sample]:
    """One sample a question, in file order. root: a .jsonl or .json file, or a folder of .json files (``split`` is then not looked at), or
    one with ``<split>.jsonl``. Raises DataError when there is nothing to read.
    """
    root = Path(root)
    named = root / f"{split}.jsonl"
    files = [root] if root.is_file() else [named] if named.is_file() else sorted(root.glob("*.json"))
    if not files:
        raise DataError(f"{root}: no rows; expected a .jsonl file, or a folder of .json files")
    for path in files:
        number = 0

        def numbered(row: dict[str, Any], path: Path = path) -> Iterator[Sample]:
            nonlocal number
            number += 1
            yield from _samples(row, path, number)

        yield from iter_samples([path], numbered, skips)


def _samples(row: dict[str, Any], path: Path, number: int) -> Iterator[Sample]:
    image, depth = _file(row, "image", path), _file(row, "depth", path) if row.get("depth") is not None else None
    width, height = image_size(image)
    table = [Region.from_json(region, height, width, path.parent) for region in field(row, "regions", list)] if row.get("regions") else []
    questions = [field(row, "question", str)] if "question" in row else field(row, "questions", list)
    name = str(row.get("id", f"{path.stem}-{number}"))
    for place, question in enumerate(questions):
        try:
            text, numbers = read_mentions(question, len(table))
        except ValueError as error:
            raise DataError(str(error)) from error
        yield Sample(
            id=name if len(questions) == 1 else f"{name}-{place}",
            image=image,
            question=text,
            regions=[table[region] for region in numbers],
            depth=depth,
            camera=None if row.get("camera") is None else Camera.from_any(row["camera"], height, width),
            answer=row.get("answer"),
            normalized_answer=row.get("normalized_answer"),
            category=row.get("category"),
            image_key=f"{image}#{depth}#{row.get('camera')}",
            metadata={DEPTH_NEAR: row.get("depth_near", "dark"), DEPTH_KIND: row.get("depth_kind"), REGION_NUMBERS: numbers},
        )


def _file(row: Mapping[str, Any], name: str, path: Path) -> Path:
    found = path.parent / field(dict(row), name, str)
    if not found.is_file():
        raise Missing(name, f"{name} {brief(found, 200)} is not there")
    return found
