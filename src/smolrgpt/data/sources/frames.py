"""Questions about real RGB-D frames, each in several wordings: one JSON object a line of ``<root>/<split>.jsonl``.

    {"id": "a-1", "frame": "a", "source": "set", "scale": "table", "image": "a.jpg", "depth": "a_depth.png", "depth_relative": "a_8bit.png",
     "camera": {"fx": 525, "fy": 525, "cx": 319.5, "cy": 239.5}, "regions": [{"rle": {..}}, {"box": [202, 95, 453, 426]}],
     "category": "distance", "kind": "distance", "answer": 0.17, "question": "How far is the cup <region 0> from the tin <region 1>?",
     "question_plain": "How far is <region 0> from <region 1>?", "question_official": "What is the distance ...?"}

Files are relative to the folder; depth is in metres or millimetres (see ``DepthMap``), the relative one has 8 bits with near = dark.
``category`` is the name of a ``Task``, ``kind`` what exactly is asked: "closest", "leftmost", "inside" and so on; "within" comes with
``threshold_m``. ``question`` is in people's words with nouns, ``question_plain`` has the same words without nouns, ``question_official``
is a sentence of the warehouse set. Rows with the same ``sequence``, which is optional, ask the same about consecutive frames of a still
scene. Other fields describe the frame and are not read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources.questions import read_question, read_short_answer
from smolrgpt.data.sources.rows import MissingFileError, field, iter_samples, optional, scalar, split_files
from smolrgpt.schema import Camera, DataError, DepthFile, Region, Sample, brief, naming
from smolrgpt.schema.image_file import image_size

#: Wording -> the field of the question: people's words with nouns, the same without nouns, sentences of the warehouse data set.
WORDINGS = {"natural": "question", "plain": "question_plain", "official": "question_official"}
#: Setting -> the field of the depth that is given, None for none; only "metric_camera" gives the camera as well.
SETTINGS = {"metric_camera": "depth", "metric": "depth", "relative": "depth_relative", "none": None}
#: Fields that samples carry as ``metadata``.
_METADATA = ("frame", "source", "scale", "kind", "threshold_m", "sequence", "names")


def iter_frames(
    root: Path | str,
    split: str = "questions",
    *,
    skips: SkipLog,
    wording: str = "natural",
    setting: str = "metric_camera",
) -> Iterator[Sample]:
    """Yield the questions in one wording and depth setting, in file order, with ids ``<id>/<setting>/<wording>``; decodes no image.

    Args:
        root: The folder.
        split: The name of the rows' file.
        skips: Counts rows that cannot be used, such as those without this wording or this depth.
        wording: A name of ``WORDINGS``: which of the row's questions is asked.
        setting: A name of ``SETTINGS``: which depth, and whether the camera, is given.

    Raises:
        DataError: There is no such file, wording or setting.
    """
    for name, value, known in (("wording", wording, WORDINGS), ("setting", setting, SETTINGS)):
        if value not in known:
            raise DataError(f"{name} is {value!r}; expected one of {', '.join(known)}")
    files, size = _Files(Path(root)), functools.cache(image_size)

    def make(row: dict[str, Any]) -> list[Sample]:
        image = files.find(row, "image")
        width, height = size(image)
        return [_sample(row, image, (height, width), files, wording, setting)]

    return iter_samples(split_files(Path(root), split), make, skips)


class _Files:
    """The files that rows name, each looked up once."""

    def __init__(self, root: Path):
        self._root, self._exists = root, functools.cache(Path.is_file)

    def find(self, row: dict[str, Any], name: str) -> Path:
        """Return the file of a field. Raises MissingFileError where it does not exist, DataError where the row names none."""
        path = self._root / field(row, name, str)
        if not self._exists(path):
            raise MissingFileError("depth" if name != "image" else name, f"{name} {brief(path, 200)} does not exist")
        return path


def _sample(row: dict[str, Any], image: Path, size: tuple[int, int], files: _Files, wording: str, setting: str) -> Sample:
    """Build a row's sample; size: (height, width) of the image. Raises DataError when the row is unusable."""
    regions = [Region.from_json(region, *size) for region in field(row, "regions", list)]
    with naming(WORDINGS[wording]):
        text, indices = read_question(field(row, WORDINGS[wording], str), len(regions))
    category = optional(row, "category")
    depth_field = SETTINGS[setting]
    kept = {name: row[name] for name in _METADATA if row.get(name) is not None}
    return Sample(
        id=f"{field(row, 'id', str)}/{setting}/{wording}",
        image=image,
        question=text,
        regions=[regions[index] for index in indices],
        region_indices=tuple(indices),
        depth=None if depth_field is None else DepthFile(files.find(row, depth_field)),
        camera=Camera.from_any(field(row, "camera", object), *size) if setting == "metric_camera" else None,
        normalized_answer=read_short_answer(scalar(row, "answer"), category, text, len(regions), indices),
        category=category,
        metadata={**kept, "num_regions": len(regions), "setting": setting, "wording": wording},
    )
