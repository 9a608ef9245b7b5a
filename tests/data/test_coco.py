"""Laws of the COCO reader: an annotation number stays with its mask, and without questions the masks themselves give the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import read_source
from smolrgpt.schema import DataError, DepthFile, Region

H, W = 40, 60
CATEGORIES = [{"id": 1, "name": "pallet"}, {"id": 2, "name": "transporter"}]


def mask(x0: int, width: int = 8, y0: int = 10, height: int = 12) -> np.ndarray:
    inside = np.zeros((H, W), dtype=bool)
    inside[y0 : y0 + height, x0 : x0 + width] = True
    return inside


def runs(inside: np.ndarray) -> list[int]:
    flat = np.concatenate(([0], inside.flatten(order="F").astype(int), [-1]))
    ends = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate(([0], ends))).tolist()


def polygon(x0: int, width: int = 8, y0: int = 10, height: int = 12) -> list[float]:
    x1, y1 = x0 + width, y0 + height
    return [x0, y0, x1, y0, x1, y1, x0, y1]


#: One object in each form of a segmentation, from left to right; the number of each says its place.
SHAPES: list[dict[str, Any]] = [
    {"segmentation": [polygon(1)]},
    {"segmentation": Region.from_mask(mask(14)).to_rle()},
    {"segmentation": {"size": [H, W], "counts": runs(mask(27))}},
    {"bbox": [40.0, 10.0, 8.0, 12.0]},
    {"segmentation": [polygon(50, 3), polygon(53, 5)]},
]
MASKS = [mask(1), mask(14), mask(27), mask(40), mask(50)]


def annotation(number: int, shape: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 7, "category_id": 1 + number % 2, "iscrowd": 0, **shape} | changes


def write(root: Path, annotations: list[Any], images: list[Any] | None = None, kind: str = "instances") -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "mine").mkdir(exist_ok=True)
    images = images or [{"id": 7, "file_name": "a.jpg", "height": H, "width": W}]
    Image.new("RGB", (W, H)).save(root / "mine" / "a.jpg")
    file = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations" / f"{kind}_mine.json").write_text(json.dumps(file))
    return root


def ask(root: Path, *rows: Any) -> None:
    (root / "annotations" / "questions_mine.jsonl").write_text("\n".join(map(json.dumps, rows)))


def instances(root: Path) -> Path:
    return write(root, [annotation(number, shape) for number, shape in enumerate(SHAPES)])


def test_questions_point_at_annotations(tmp_path: Path) -> None:
    root = instances(tmp_path)
    six = {"image": "a.jpg", "question": "<mask>" * 6, "annotation_ids": [4, 2, 0, 3, 1, 4]}
    said = {"answer": "No.", "normalized_answer": 2.5, "category": "distance", "id": "mine-1"}
    ask(root, six | said, {"image": "a.jpg", "question": "What is this?", "annotation_ids": []})
    first, second = read_source("coco", root, "mine")
    for region, number in zip(first.regions, (4, 2, 0, 3, 1, 4), strict=True):
        assert np.array_equal(region.to_mask(), MASKS[number])
    assert first.metadata["annotation_ids"] == [4, 2, 0, 3, 1, 4]
    assert first.metadata["region_names"] == ["pallet", "pallet", "pallet", "transporter", "transporter", "pallet"]
    assert (first.id, first.answer, first.normalized_answer, first.category, first.depth) == ("mine-1", "No.", 2.5, "distance", None)
    assert (second.regions, second.answer, second.image_key) == ([], None, first.image_key)


def test_unusable_questions_are_counted(tmp_path: Path) -> None:
    root, skips = instances(tmp_path), SkipLog(keep=99)
    good = {"image": "a.jpg", "question": "<mask>?", "annotation_ids": [0]}
    bad = [
        good | {"image": "b.jpg"},
        good | {"annotation_ids": [9]},
        good | {"annotation_ids": [[0]]},
        good | {"annotation_ids": [0, 1]},
        good | {"annotation_ids": None},
        good | {"question": 3},
        good | {"normalized_answer": []},
        3,
    ]
    ask(root, *bad, good)
    assert len(read_source("coco", root, "mine", skips=skips)) == 1
    messages = skips.examples["unusable row"]
    assert skips.total == len(messages) == len(bad)
    assert all(f"questions_mine.jsonl row {index}:" in message for index, message in enumerate(messages))


def test_without_questions_masks_say_which_is_left(tmp_path: Path) -> None:
    samples = read_source("coco", instances(tmp_path), "mine")
    assert len(samples) == 5 * 4 // 2 and len({frozenset(sample.metadata["annotation_ids"]) for sample in samples}) == 10
    for sample in samples:
        left, right = (np.nonzero(region.to_mask())[1].mean() for region in sample.regions)
        assert sample.normalized_answer == ("left" if left < right else "right") and sample.category == "left_right"
        assert sample.answer == f"[Region 0] is to the {sample.normalized_answer} of [Region 1]."
    assert {sample.normalized_answer for sample in samples} == {"left", "right"}
    assert samples == read_source("coco", tmp_path, "mine")
    assert len(read_source("coco", tmp_path, "mine", max_pairs=3)) == 3


def test_who_comes_first_says_nothing(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "height": H, "width": W} for number in range(60)]
    pairs = [annotation(2 * image + side, SHAPES[side], image_id=image) for image in range(60) for side in (0, 3)]
    root = write(tmp_path, pairs, images)
    for number in range(60):
        Image.new("RGB", (W, H)).save(root / "mine" / f"{number}.jpg")
    sides = [sample.normalized_answer for sample in read_source("coco", root, "mine")]
    assert len(sides) == 60 and 15 < sides.count("left") < 45


def test_objects_one_above_the_other_and_crowds_are_not_asked_about(tmp_path: Path) -> None:
    rows = [
        annotation(1, {"segmentation": [polygon(20, y0=2)]}),
        annotation(2, {"segmentation": [polygon(21, y0=25)]}),
        annotation(3, {"segmentation": {"size": [H, W], "counts": runs(mask(40))}}, iscrowd=1),
        annotation(4, SHAPES[0]),
    ]
    samples = read_source("coco", write(tmp_path, rows), "mine")
    assert {frozenset(sample.metadata["annotation_ids"]) for sample in samples} == {frozenset((1, 4)), frozenset((2, 4))}


def test_a_bad_annotation_costs_itself(tmp_path: Path) -> None:
    bad = [
        5,
        annotation(10, SHAPES[0], image_id=99),
        annotation(11, {}),
        annotation(12, {"segmentation": [[1, 2, 3]]}),
        annotation(13, {"bbox": ["a", 0, 1, 1]}),
        annotation(14, {"bbox": [90.0, 0.0, 5.0, 5.0]}),
        annotation(15, {"segmentation": {"size": [H, W], "counts": [3]}}),
        annotation(16, {"segmentation": {"size": [H, W], "counts": [H * W]}}),
        {"image_id": 7},
    ]
    skips = SkipLog()
    samples = read_source("coco", write(tmp_path, [*bad, annotation(0, SHAPES[0]), annotation(3, SHAPES[3])]), "mine", skips=skips)
    assert len(samples) == 1 and skips.total == len(bad)


def test_a_missing_picture_costs_its_questions(tmp_path: Path) -> None:
    images = [
        {"id": number, "file_name": name, "height": H, "width": W} for number, name in ((7, "a.jpg"), (8, "gone.jpg"), (9, "../a.jpg"))
    ]
    rows = [annotation(number + 10 * image, SHAPES[number], image_id=image) for image in (7, 8, 9) for number in (0, 3)]
    skips = SkipLog()
    assert len(read_source("coco", write(tmp_path, rows, images), "mine", skips=skips)) == 1
    assert skips.counts == {"missing image": 4}


def test_panoptic_segments_are_read_from_their_colours(tmp_path: Path) -> None:
    numbers, ids = np.zeros((H, W), dtype=np.int64), (70_000, 300, 5)
    for number, place in zip(ids, (1, 27, 50), strict=True):
        numbers[mask(place)] = number
    (tmp_path / "annotations" / "panoptic_mine").mkdir(parents=True)
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 256**2], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "annotations" / "panoptic_mine" / "a.png")
    segments = [{"id": number, "category_id": 1, "iscrowd": 0} for number in ids]
    root = write(tmp_path, [{"image_id": 7, "file_name": "a.png", "segments_info": segments}], kind="panoptic")
    ask(root, {"image": "a.jpg", "question": "<mask> <mask> <mask>", "annotation_ids": [5, 70_000, 300]})
    (sample,) = read_source("coco", root, "mine")
    assert [np.array_equal(region.to_mask(), mask(x)) for region, x in zip(sample.regions, (50, 1, 27), strict=True)] == [True] * 3
    (root / "annotations" / "questions_mine.jsonl").unlink()
    assert len(read_source("coco", root, "mine")) == 3


def test_depth_is_found_beside_the_pictures(tmp_path: Path) -> None:
    root = instances(tmp_path)
    (root / "depths").mkdir()
    Image.fromarray(np.full((H, W), 1500, np.uint16)).save(root / "depths" / "a.png")
    assert read_source("coco", root, "mine")[0].depth == DepthFile(root / "depths" / "a.png", "bright")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[]", "expected a COCO object"), ("{", "damaged JSON"), ('{"images": [], "annotations": null}', "expected a COCO object")],
)
def test_what_is_no_coco_file_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    root = instances(tmp_path)
    (root / "annotations" / "instances_mine.json").write_text(text)
    with pytest.raises(DataError, match=expected):
        read_source("coco", root, "mine")


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    root = instances(tmp_path)
    with pytest.raises(DataError, match="no annotations of the split 'other'"):
        read_source("coco", root, "other")
