"""Laws of the COCO reader: an annotation number stays with its mask, and without questions the masks themselves give the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import iter_source, read_source
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
    assert len(samples) == 1 and skips.counts == {"unusable row": len(bad), "unread shape": 1}


def test_a_missing_picture_costs_its_questions(tmp_path: Path) -> None:
    images = [
        {"id": number, "file_name": name, "height": H, "width": W} for number, name in ((7, "a.jpg"), (8, "gone.jpg"), (9, "../b.jpg"))
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
    assert read_source("coco", root, "mine")[0].depth == DepthFile(root / "depths" / "a.png", relative_near="bright")


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


def test_entries_about_one_file_are_put_together(tmp_path: Path) -> None:
    names = ("a.jpg", "mine\\a.jpg", "C:\\data\\mine\\a.jpg", "./a.jpg")
    images = [{"id": number, "file_name": name, "height": H, "width": W} for number, name in enumerate(names)]
    rows = [annotation(number, SHAPES[number], image_id=number) for number in range(4)]
    root, skips = write(tmp_path, rows, images), SkipLog()
    samples = read_source("coco", root, "mine", skips=skips)
    assert len(samples) == 6 and {sample.image for sample in samples} == {root / "mine" / "a.jpg"} and not skips.total
    for name in names:
        ask(root, {"image": name, "question": "<mask><mask>?", "annotation_ids": [3, 0]})
        (sample,) = read_source("coco", root, "mine")
        assert [np.array_equal(region.to_mask(), MASKS[k]) for region, k in zip(sample.regions, (3, 0), strict=True)] == [True, True]


def test_images_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    names = ("left/a.jpg", "right\\a.jpg")
    images = [{"id": number, "file_name": name, "height": H, "width": W} for number, name in enumerate(names)]
    rows = [annotation(2 * image + side, SHAPES[side], image_id=image) for image in (0, 1) for side in (0, 3)]
    root, skips = write(tmp_path, rows, images), SkipLog()
    with pytest.raises(DataError, match="both lead to"):  # only one a.jpg is there: it is that of one of them
        read_source("coco", root, "mine")
    for folder in ("left", "right"):
        (root / "mine" / folder).mkdir()
        Image.new("RGB", (W, H)).save(root / "mine" / folder / "a.jpg")
    assert [sample.image.parent.name for sample in read_source("coco", root, "mine", skips=skips)] == ["left", "right"]
    assert not skips.total


def test_an_id_used_twice_is_counted(tmp_path: Path) -> None:
    rows = [annotation(1, SHAPES[0]), annotation(1, SHAPES[1]), annotation(2, SHAPES[2]), annotation(3, SHAPES[3])]
    root, skips = write(tmp_path, rows), SkipLog()
    assert [sorted(sample.metadata["annotation_ids"]) for sample in read_source("coco", root, "mine", skips=skips)] == [[2, 3]]
    assert skips.counts == {"unusable row": 2} and "2 annotations have the id 1" in skips.summary()
    ask(
        root,
        {"image": "a.jpg", "question": "<mask>?", "annotation_ids": [1]},
        {"image": "a.jpg", "question": "<mask>?", "annotation_ids": [2]},
    )
    assert len(read_source("coco", root, "mine")) == 1
    Image.new("RGB", (W, H)).save(root / "mine" / "b.jpg")
    images = [{"id": 7, "file_name": name, "height": H, "width": W} for name in ("a.jpg", "b.jpg")]
    skips = SkipLog(keep=9)
    write(root, [*rows, annotation(9, SHAPES[0], image_id=8)], [*images, {"id": 8, "file_name": "a.jpg", "height": H, "width": W}])
    ask(root, {"image": "a.jpg", "question": "<mask>?", "annotation_ids": [9]})
    assert len(read_source("coco", root, "mine", skips=skips)) == 1
    assert skips.total == 6 and "id 7 is that of 'a.jpg' (60x40) and 'b.jpg' (60x40)" in skips.examples["unusable row"][0]


BROKEN: list[Any] = [[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], [1, "x", 2, 3, 4, 5], [1e9, 0, 1e9, 5, 0, 5], [None] * 6, "x", None, 5]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_broken_part_costs_itself(tmp_path: Path, broken: Any) -> None:
    shapes = [
        {"segmentation": [broken, polygon(1), broken]},
        {"segmentation": [Region.from_mask(mask(14)).to_rle(), broken]},
        {"segmentation": [broken], "bbox": [27, 10, 8, 12]},
        {"segmentation": [], "bbox": [40, 10, 8, 12]},
        {"segmentation": [Region.from_mask(mask(50, 3)).to_rle(), {"size": [H, W], "counts": runs(mask(53, 5))}]},
    ]
    root, skips = write(tmp_path, [annotation(number, shape) for number, shape in enumerate(shapes)]), SkipLog()
    ask(root, {"image": "a.jpg", "question": "<mask>" * 5, "annotation_ids": list(range(5))})
    (sample,) = read_source("coco", root, "mine", skips=skips)
    assert [np.array_equal(region.to_mask(), MASKS[k]) for k, region in enumerate(sample.regions)] == [True] * 5
    assert skips.counts == {"unread shape": 4} and "annotations[0]: a part of annotation 0 is left out" in skips.summary()


@pytest.mark.parametrize("points", [polygon(1), [[1, 10], [9, 10], [9, 22], [1, 22]], [[[1, 10], [9, 10], [9, 22], [1, 22]]]])
def test_one_polygon_may_be_flat_or_of_points(tmp_path: Path, points: list[Any]) -> None:
    root = write(tmp_path, [annotation(0, {"segmentation": points})])
    ask(root, {"image": "a.jpg", "question": "<region 0>", "annotation_ids": [0]})
    (sample,) = read_source("coco", root, "mine")
    assert np.array_equal(sample.regions[0].to_mask(), MASKS[0]) and sample.question == "<mask>"


@pytest.mark.parametrize("categories", [None, [], {}, 5, [None, {"name": "x"}, {"id": [1]}]])
def test_without_categories_objects_have_no_name(tmp_path: Path, categories: Any) -> None:
    root = instances(tmp_path)
    path = root / "annotations" / "instances_mine.json"
    path.write_text("\ufeff" + json.dumps(json.loads(path.read_text()) | {"categories": categories}).replace(", ", ",\r\n"))
    assert {name for sample in read_source("coco", root, "mine") for name in sample.metadata["region_names"]} == {"object"}


def test_a_misspelt_field_of_a_question_is_counted(tmp_path: Path) -> None:
    root, skips = instances(tmp_path), SkipLog()
    good = {"image": "a.jpg", "question": "<mask>?", "annotation_ids": [0], "metadata": {"by": "me"}}
    ask(root, good, good | {"normalised_answer": 3}, good | {"question": "<region 1> <region 0>?", "annotation_ids": [0, 1]})
    (sample,) = read_source("coco", root, "mine", skips=skips)
    assert sample.metadata["by"] == "me" and skips.total == 2 and "did you mean normalized_answer?" in skips.summary()


@pytest.mark.parametrize(("units", "sides"), [("normalized", (1, 1)), ("thousandths", (1000, 1000))])
def test_shares_of_the_sides_have_to_be_stated(tmp_path: Path, units: str, sides: tuple[int, int]) -> None:
    scale = np.array(sides) / (W, H)
    shapes = [
        {"segmentation": [(np.reshape(polygon(1), (-1, 2)) * scale).ravel().tolist()]},
        {"bbox": (np.array([[40, 10], [8, 12]]) * scale).ravel().tolist()},
    ]
    root, skips = write(tmp_path, [annotation(number, shape) for number, shape in enumerate(shapes)]), SkipLog()
    ask(root, {"image": "a.jpg", "question": "<mask><mask>", "annotation_ids": [0, 1]})
    (sample,) = read_source("coco", root, "mine", units=units)
    assert [np.array_equal(region.to_mask(), MASKS[k]) for region, k in zip(sample.regions, (0, 3), strict=True)] == [True, True]
    assert units == "thousandths" or (not list(iter_source("coco", root, "mine", skips=skips)) and skips.total == 1)
    with pytest.raises(DataError, match="expected one of pixels"):
        read_source("coco", root, "mine", units="percent")


@pytest.mark.realdata
def test_duplicates_of_the_shared_samples_are_merged_or_counted(shared_path: Callable[[str], Path]) -> None:
    folder = shared_path("samples/inputs/14-coco-duplicates")
    skips = SkipLog()
    merged = read_source("coco", folder, "val", skips=skips)
    assert len(merged) == 6 and {k for sample in merged for k in sample.metadata["annotation_ids"]} == {1, 2, 3, 4} and not skips.total
    for name in ("same_image_id", "same_annotation_id"):
        skips = SkipLog()
        with pytest.raises(DataError, match="none of its"):
            read_source("coco", folder / name, "val", skips=skips)
        assert skips.total >= 3


@pytest.mark.realdata
def test_annotations_of_an_unturned_image_turn_with_it(shared_path: Callable[[str], Path]) -> None:
    (sample,) = read_source("coco", shared_path("samples/inputs/13-coco-of-an-unturned-phone-picture"), "val")
    assert sample.normalized_answer == ("left" if sample.metadata["annotation_ids"] == [1, 2] else "right")
    assert [region.size for region in sample.regions] == [(216, 384)] * 2
