"""Laws of the check: each kind of damage is found, named and counted once per thing that is broken; nothing sound is complained about."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolrgpt.data import validate as module
from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import SOURCES
from smolrgpt.data.validate import check_text, format_validation, validate
from smolrgpt.schema import Camera, DataError, DepthFile, DepthMap, Region, Sample

H, W = 18, 32
BOX, OTHER = Region.from_box((2, 2, 8, 8), H, W), Region.from_box((20, 2, 26, 8), H, W)
RAMP = DepthMap(np.linspace(0, 1, H * W, dtype=np.float32).reshape(H, W), "relative")


def sample(name: str = "a", **changes: Any) -> Sample:
    made = {
        "image": Image.new("RGB", (W, H), (90, 90, 90)),
        "question": "Is <mask> left of <mask>?",
        "regions": [BOX, OTHER],
        "depth": RAMP,
        "answer": "[Region 0] is left of [Region 1].",
        "normalized_answer": "left",
        "category": "left_right",
        "image_key": "picture",
    } | changes
    return Sample(id=name, **made)


def found(*samples: Sample) -> dict[str, int]:
    return dict(validate({"val": samples}, workers=1, progress=False).problems.counts)


def test_a_sound_set_has_no_problem_and_everything_in_it_is_counted() -> None:
    result = validate({"val": [sample("a"), sample("b")], "more": [sample("a", image_key="second")]}, workers=1, progress=False)
    assert not result.problems.total
    assert result.to_dict()["num_questions"] == {"val": 2, "more": 1}  # an id may occur in two splits
    assert (result.num_images, result.num_depth, result.num_masks) == (2, {"relative": 2}, 4)
    assert format_validation(result.to_dict(), "set").endswith("no problem found")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"regions": [BOX, Region((H, W), "~broken")]}, "corrupt mask"),
        ({"regions": [BOX, Region((H, W), BOX.to_rle()["counts"][:-2])]}, "corrupt mask"),
        ({"regions": [BOX, Region((4, 4), "`0")]}, "empty mask"),
        ({"regions": [BOX, Region.from_box((1, 1, 5, 5), 32, 32)]}, "mask of another shape"),
        ({"depth": DepthMap(np.full((H, W), 0.5, np.float32), "relative")}, "constant depth"),
        ({"depth": DepthMap(np.full((H, W), np.nan, np.float32), "metric")}, "empty depth"),
        ({"depth": DepthMap(np.eye(20, dtype=np.float32), "relative")}, "depth of another shape"),
        ({"depth": DepthFile(Path("nowhere.png"))}, "unreadable depth"),
        ({"image": Path("nowhere.png")}, "unreadable image"),
        ({"answer": "[Region 2] is left."}, "answer names no region"),
        ({"answer": "Region [7] is left."}, "answer names no region"),
        ({"normalized_answer": "yes"}, "wrong short answer"),
    ],
)
def test_each_damage_is_found_and_named(changes: dict[str, Any], problem: str) -> None:
    if problem == "empty mask":  # of the image's shape, so that it has one problem only
        changes = {"regions": [BOX, Region((H, W), _empty_counts())]}
    result = validate({"val": [sample("broken", **changes), sample("sound", image_key="other")]}, workers=1, progress=False)
    assert dict(result.problems.counts) == {problem: 1}
    example = result.problems.examples[problem][0]
    assert "broken" in example or "nowhere.png" in example or "picture" in example


def _empty_counts() -> str:
    from pycocotools import mask as coco

    return coco.encode(np.zeros((H, W), dtype=np.uint8, order="F"))["counts"].decode()


@pytest.mark.parametrize(
    ("category", "right", "wrong"),
    [
        ("left_right", ["left", "right"], ["Left", "yes", 0, None]),
        ("count", [0, 3], ["3", 2.0, True, -1, None]),
        ("mcq", ["0", "1"], [1, "2", "one", "-1", None]),
        ("distance", [0, 3.5, "6.36", 5], [-1.0, "far", True, None, float("nan"), float("inf")]),
        (None, [None, "anything"], []),
        ("height", ["2 m", None], []),
    ],
)
def test_short_answers_follow_their_category(category: str | None, right: list[Any], wrong: list[Any]) -> None:
    for value in right + wrong:
        problems = SkipLog()
        check_text(sample(category=category, normalized_answer=value), problems)
        assert (problems.total == 0) == any(value is one for one in right), (category, value)


def test_an_image_is_opened_once_for_all_its_questions_and_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(module, "load_upright", lambda one: opened.append(one.image_key) or (one.image, 1))
    questions = [sample(str(number), image_key=f"picture {number % 2}") for number in range(10)]
    assert not validate({"val": questions, "val_more": questions}, workers=1, progress=False).problems.total
    assert sorted(opened) == ["picture 0", "picture 1"]


def test_a_broken_mask_counts_once_however_many_questions_ask_about_it() -> None:
    broken = Region((H, W), "~broken")
    assert found(*[sample(str(number), regions=[BOX, broken]) for number in range(5)]) == {"corrupt mask": 1}


def test_cameras_that_do_not_fit_are_problems_and_doubts_are_none() -> None:
    metric = DepthMap(RAMP.values + 1, "metric")
    assert found(sample(camera=Camera(30, 30, 10, 10, 20, 20))) == {"camera of another shape": 1}
    result = validate({"val": [sample("a", depth=metric), sample("b", depth=metric)]}, workers=1, progress=False)
    (kind,) = (kind for kind in result.doubts.counts if "no camera was given" in kind)
    assert not result.problems.total and result.doubts.counts[kind] == 1
    assert "doubtful input: no camera was given" in format_validation(result.to_dict(), "set")


def test_duplicate_ids_and_missing_maps() -> None:
    assert found(sample("a"), sample("a"), sample("b")) == {"duplicate id": 1}
    assert found(sample("a"), sample("b", depth=None, image_key="other")) == {"no depth map": 1}
    assert found(sample("a", depth=None), sample("b", depth=None, image_key="other")) == {}  # a set without depth is as it is meant


def test_a_mask_at_another_scale_is_no_problem_but_is_mentioned() -> None:
    result = validate({"val": [sample(regions=[BOX, Region.from_box((1, 1, 5, 5), 2 * H, 2 * W)])]}, workers=1, progress=False)
    assert (result.problems.total, result.num_scaled_masks) == (0, 1)
    assert "1 at another scale" in format_validation(result.to_dict(), "set")


def test_a_reader_that_breaks_off_ends_its_split_only() -> None:
    def broken() -> Any:
        yield sample("a")
        raise DataError("val.json row 1: damaged JSON")

    result = validate({"val": broken(), "test": [sample("b")]}, workers=1, progress=False)
    assert dict(result.num_questions) == {"val": 1, "test": 1}
    assert result.problems.examples["damaged file"] == ["val: val.json row 1: damaged JSON"]


def test_a_set_larger_than_memory_is_checked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [sample(str(number), image_key=f"picture {number}", regions=[BOX, Region((H, W), "~x")]) for number in range(7)]
    whole = validate({"val": questions}, workers=1, progress=False).to_dict()
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 4000)
    assert validate({"val": questions}, workers=1, progress=False).to_dict() == whole


def test_workers_find_what_one_process_finds(tmp_path: Path) -> None:
    questions = []
    for number in range(17):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (W, H), (number, 0, 0)).save(path)
        if number % 5 == 0:
            path.write_bytes(path.read_bytes()[:40])
        questions.append(sample(str(number), image=path, image_key=str(path)))
    alone, together = (validate({"val": questions}, workers=count, progress=False).to_dict() for count in (1, 2))
    assert alone == together and alone["problems"]["unreadable image"]["count"] == 4
    json.dumps(alone)


def test_every_reason_has_its_meaning() -> None:
    reasons = set(re.findall(r'problems\.add\(\s*"([^"]+)"', inspect.getsource(module)))
    assert len(reasons) >= 12 and reasons <= set(module.PROBLEMS)
    assert all("; " in means for means in module.PROBLEMS.values())


@pytest.mark.realdata
def test_real_rows_are_sound(shared_path) -> None:
    root = shared_path("samples/warehouse/mini")
    problems = SkipLog()
    splits = {name: SOURCES["warehouse"](root, name, skips=problems) for name in ("train", "val")}
    result = validate(splits, problems, workers=1, progress=False)
    assert result.problems.total == 0 and (result.num_images, result.num_masks) == (3, 7)
