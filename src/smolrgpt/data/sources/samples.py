"""Questions as users write them: one JSON object a line, or a folder of files as the web page saves them.

    {"image": "scene.png", "depth": "scene-depth.png", "camera": {"fx": 600, "fy": 600, "cx": 320, "cy": 240},
     "regions": [{"box": [40, 90, 110, 150]}, {"mask": "pallet.png"}, {"polygon": [..]}, {"rle": {..}}],
     "question": "How far is <region 0> from <region 1>?"}

Files are named relative to the JSON file. ``questions``, a list, asks several; ``id`` names the row (else its file and number do);
``answer``, ``normalized_answer`` and ``category`` may be given for a single question; ``depth_unit`` (metres per stored unit, or a name
such as mm or tum), ``depth_kind`` (metric, relative, inverse) and ``depth_near`` (dark, bright) state what the depth map's values mean;
``metadata`` is an object of anything else. A row with a field of another name cannot be used, because it states something that would not
be obeyed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smolrgpt.data.frame import fit_camera
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.questions import read_answer, read_question, read_short_answer
from smolrgpt.data.sources.rows import MissingFileError, check_fields, field, iter_samples, optional, scalar
from smolrgpt.schema import Camera, DataError, DepthFile, DepthMeaning, Region, Sample, brief, naming
from smolrgpt.schema.camera_forms import is_camera_field
from smolrgpt.schema.depth_meaning import DEPTH_OPTIONS
from smolrgpt.schema.image_file import is_file, read_header

#: The fields of a row.
FIELDS = (
    "id", "image", "depth", *DEPTH_OPTIONS, "camera", "regions", "question", "questions", "answer", "normalized_answer",
    "category", "metadata",
)  # fmt: skip
_CAMERA_FIELDS = ("fx", "fy", "cx", "cy", "width", "height", "distortion", "distortion_model", "is_guessed")


def iter_sample_rows(root: Path | str, split: str = "", *, skips: SkipLog) -> Iterator[Sample]:
    """Yield one sample per question, in file order.

    Args:
        root: A .jsonl or .json file, or a folder with ``<split>.jsonl``, or else a folder of .json files.
        split: See root.
        skips: Counts rows that cannot be used.

    Raises:
        DataError: When there is nothing to read.
    """
    root = Path(root)
    named = root / f"{split}.jsonl"
    files = [root] if root.is_file() else [named] if named.is_file() else sorted(root.glob("*.json"))
    if not files:
        raise DataError(f"{root}: no rows; expected a .jsonl file, or a folder of .json files")
    for path in files:
        yield from iter_samples([path], functools.partial(_samples, path=path, numbers=itertools.count(1)), skips)


def _samples(row: dict[str, Any], path: Path, numbers: Iterator[int]) -> Iterator[Sample]:
    number = next(numbers)  # of the row, also where it cannot be used
    check_fields(row, FIELDS)
    image = _file(row, "image", path)
    meaning = DepthMeaning(*(row.get(name) for name in DEPTH_OPTIONS))
    meaning.require_map(row.get("depth"))
    depth = None if row.get("depth") is None else DepthFile(_file(row, "depth", path), meaning)
    (width, height), orientation = read_header(image)
    camera = _camera(row, height, width, path.parent)
    camera = camera and fit_camera(camera, (height, width), orientation)
    regions = [Region.from_json(region, height, width, path.parent) for region in field(row, "regions", list)] if row.get("regions") else []
    questions, category = _questions(row), optional(row, "category")
    metadata = {} if row.get("metadata") is None else field(row, "metadata", dict)
    name = str(row.get("id", f"{path.stem}-{number}"))
    for position, question in enumerate(questions):
        text, indices = read_question(question, len(regions))
        yield Sample(
            id=name if len(questions) == 1 else f"{name}-{position}",
            image=image,
            question=text,
            regions=[regions[index] for index in indices],
            depth=depth,
            camera=camera,
            answer=_answer(row, len(regions), indices),
            normalized_answer=read_short_answer(scalar(row, "normalized_answer"), category, text, len(regions), indices),
            category=category,
            region_indices=tuple(indices),
            metadata=dict(metadata),
        )


def _questions(row: dict[str, Any]) -> list[Any]:
    """Return the questions of a row. Raises DataError where it has none, or one answer for several."""
    if row.get("question") is not None and row.get("questions") is not None:
        raise DataError("the row has question and questions; expected one of the two")
    questions = [field(row, "question", str)] if row.get("questions") is None else field(row, "questions", list)
    if not questions:
        raise DataError("questions is empty; expected at least one")
    if len(questions) > 1 and any(row.get(name) is not None for name in ("answer", "normalized_answer")):
        raise DataError(f"the row has one answer for {len(questions)} questions; write a row with question and answer for each")
    return questions


def _answer(row: dict[str, Any], num_regions: int, indices: list[int]) -> str | None:
    """Return the answer with regions numbered by their position in the question, as the model is trained on it. Raises DataError."""
    answer = optional(row, "answer")
    is_in_order = indices == list(range(num_regions))
    return answer if answer is None or is_in_order or not indices else read_answer(answer, num_regions, indices)


def _camera(row: Mapping[str, Any], height: int, width: int, folder: Path) -> Camera | None:
    """Return the camera of a row. Raises DataError, also for an unknown field beside fx, fy, cx and cy."""
    camera = row.get("camera")
    if isinstance(camera, Mapping) and {"fx", "fy", "cx", "cy"} <= set(camera):
        with naming("camera"):
            check_fields({name: camera[name] for name in camera if not is_camera_field(name)}, _CAMERA_FIELDS)
    return None if camera is None else Camera.from_any(camera, height, width, folder)


def _file(row: Mapping[str, Any], name: str, path: Path) -> Path:
    written = field(dict(row), name, str)
    for found in (path.parent / written, path.parent / written.replace("\\", "/")):  # a row may have been written on Windows
        if is_file(found):
            return found
    raise MissingFileError(name, f"{name} {brief(path.parent / written, 200)} does not exist")
