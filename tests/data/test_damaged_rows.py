"""One law for every reader: whatever stands in a field of a row, the rows around it are read and the damage is counted or harmless."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import SOURCES
from smolrgpt.schema import DataError, Region, Sample

H, W = 18, 32
JUNK: list[Any] = [
    None,
    True,
    7,
    -1,
    1e30,
    "",
    "x",
    "[",
    "../../etc",
    "\u0000",
    [],
    {},
    [None],
    [[1]],
    ["x", 3],
    {"a": 1},
    {"0": [1]},
    [[[]]],
]

RLE = [Region.from_box((x, 2, x + 4, 8), H, W).to_rle() for x in (1, 9)]
TURNS = [{"from": "human", "value": "<mask> or <mask>?"}, {"from": "gpt", "value": "Region [0]."}]
SHAPES = [
    ("rectanglelabels", {"x": 10.0, "y": 10.0, "width": 30.0, "height": 30.0, "rotation": 5, "rectanglelabels": ["a"]}),
    ("ellipselabels", {"x": 50.0, "y": 50.0, "radiusX": 30.0, "radiusY": 30.0, "ellipselabels": ["b"]}),
    ("polygonlabels", {"points": [[1.0, 1.0], [90.0, 1.0], [50.0, 90.0]], "polygonlabels": ["c"]}),
]
RESULTS: list[dict[str, Any]] = [
    *({"id": kind, "type": kind, "original_width": W, "original_height": H, "value": value} for kind, value in SHAPES),
    {"id": "q", "type": "textarea", "from_name": "question", "value": {"text": ["<region 0> or <region 2>?"]}},
    {"id": "a", "type": "textarea", "from_name": "answer", "value": {"text": ["[Region 2]"]}},
]
GOOD: dict[str, dict[str, Any]] = {
    "warehouse": {"id": "good", "image": "a.jpg", "conversations": TURNS, "rle": RLE, "category": "mcq", "normalized_answer": "0",
                  "freeform_answer": "[Region 0].", "steps": "[Region 0]", "centers_m": [[1.0, 2, 3], [4, 5, 6.5]],
                  "sizes_m": [[1, None], [2.5, 2]], "wording": "known"},
    "llava_cc3m": {"id": "good", "image": "a.jpg", "conversations": [{"from": "human", "value": "Say."}, TURNS[1]]},
    "osd": {"filename": "a", "conversations": TURNS, "rle": RLE},
    "spatial_bench": {"id": "good", "image_info": {"file_path": "a.jpg", "height": H, "width": W}, "text_q": "?", "conversations": TURNS,
                      "qa_info": {"type": "qualitative", "category": "x"}, "bbox": [[1, 2, 5, 8]] * 2, "rle": None},
    "released": {"id": "good", "rgb_image": "images/a.jpg", "depth_image": None, "rle": RLE, "category": "distance", "dataset_name": "osd",
                 "normalized_answer": "3.5", "texts": {"user": "<mask_rgb><mask_depth><mask><depth>", "assistant": "x"}},
    "samples": {"image": "images/a.jpg", "depth": None, "camera": {"fx": 20, "fy": 20, "cx": 9, "cy": 9},
                "regions": [{"box": [1, 2, 5, 8]}], "question": "<region 0>?", "answer": "x", "normalized_answer": 1, "category": "x",
                "depth_near": "dark", "depth_kind": None},
    "label_studio": {"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [{"result": RESULTS}]},
}  # fmt: skip


def damaged(good: Any) -> Iterator[Any]:
    """The row with each of its fields, at every depth, replaced by each piece of junk, and with each field left out."""
    for path in list(paths(good, ())):
        for junk in JUNK:
            row = copy.deepcopy(good)
            holder = row
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = junk
            yield row
        if isinstance(path[-1], str):
            del holder[path[-1]]
            yield row


def paths(value: Any, prefix: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    steps = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        yield (*prefix, step)
        yield from paths(value[step], (*prefix, step))


def check(samples: list[Sample], skips: SkipLog, rows: int) -> None:
    """Every sample is one that a model can be given: texts are texts, regions are regions, or say that they are not."""
    assert len(samples) >= 2 and skips.total > rows // 3
    for sample in samples:
        assert isinstance(sample.id, str) and isinstance(sample.question, str) and isinstance(sample.answer, (str, type(None)))
        assert isinstance(sample.normalized_answer, (str, int, float, type(None))) and isinstance(sample.category, (str, type(None)))
        assert sample.image.is_file() and sample.image.name == "a.jpg"
        json.dumps(sample.metadata)
        hash(sample.image_key)
        for rows in (sample.truth.centers_m, sample.truth.sizes_m) if sample.truth else ():
            assert all(value is None or math.isfinite(value) for row in rows for value in row) and len(rows) in (0, len(sample.regions))
        for region in sample.regions:
            try:
                region.to_mask()
            except DataError:
                continue  # run lengths of a whole data set are checked when they are used


@pytest.mark.parametrize("name", GOOD)
def test_no_field_of_a_row_ends_the_reading(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "train" if name == "warehouse" else tmp_path
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (W, H)).save(folder / "images" / "a.jpg")
    rows = [GOOD[name], *damaged(GOOD[name]), *JUNK, GOOD[name]]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    skips = SkipLog()
    options = {"depths": None} if name in ("osd", "spatial_bench", "released") else {}
    samples = list(SOURCES[name](tmp_path, "train", skips=skips, **options))
    check(samples, skips, len(rows))


def test_no_field_of_a_panoptic_file_ends_the_reading(tmp_path: Path) -> None:
    colours = np.zeros((H, W, 3), dtype=np.uint8)
    colours[:, :9, 0], colours[:, 20:, 0] = 1, 2
    for path in (tmp_path / "a.jpg", tmp_path / "panoptic_train" / "a.png"):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(colours).save(path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "panoptic_train").rename(tmp_path / "annotations" / "panoptic_train")
    good = {"image_id": 1, "file_name": "a.png", "segments_info": [{"id": number, "category_id": 1, "iscrowd": 0} for number in (1, 2)]}
    rows = [good, *damaged(good), *JUNK]
    images = [{"id": number, "file_name": f"{name}.jpg", "height": H, "width": W} for number, name in ((1, "a"), (2, "b"))]
    Image.fromarray(colours).save(tmp_path / "b.jpg")
    read = 0
    for row in rows:
        file = {"images": images, "annotations": [row, good | {"image_id": 2}], "categories": []}
        (tmp_path / "annotations" / "panoptic_train.json").write_text(json.dumps(file))
        samples = list(SOURCES["coco"](tmp_path, "train", skips=SkipLog(), images="."))
        assert "b.jpg" in [sample.image.name for sample in samples]
        read += len(samples)
    assert read > len(rows)


@pytest.mark.slow
def test_no_field_of_a_coco_file_ends_the_reading(tmp_path: Path) -> None:
    def numbered(rows: Iterator[Any]) -> Iterator[Any]:
        """The same rows, each with an id of its own unless that is what is damaged."""
        return (row | {"id": 100 + number} if row.get("id") == 1 else row for number, row in enumerate(rows))

    Image.new("RGB", (W, H)).save(tmp_path / "a.jpg")
    image = {"id": 1, "file_name": "a.jpg", "height": H, "width": W}
    whole = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 9, 1, 9, 9]], "bbox": [1, 1, 8, 8]}
    asked = {
        "image": "a.jpg",
        "question": "<mask>?",
        "annotation_ids": [1],
        "answer": "x",
        "normalized_answer": 1,
        "category": "x",
        "id": "x",
    }
    annotations = [whole, *numbered(damaged(whole)), *JUNK, {**whole, "segmentation": None, "bbox": [20, 1, 8, 8], "id": 2}]
    file = {
        "images": [*JUNK, *numbered(damaged(image)), image],
        "annotations": annotations,
        "categories": [*JUNK, {"id": 1, "name": "pallet"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(file))
    skips = SkipLog()
    samples = list(SOURCES["coco"](tmp_path, "train", skips=skips, images=".", max_pairs=10_000))
    check(samples, skips, len(annotations))
    questions = [asked, *damaged(asked), *JUNK, asked]
    (tmp_path / "questions_train.jsonl").write_text("\n".join(map(json.dumps, questions)))
    skips = SkipLog()
    check(list(SOURCES["coco"](tmp_path, "train", skips=skips, images=".")), skips, 0)
