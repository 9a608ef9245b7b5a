"""Laws of rows as users write them: every field is obeyed or refused with the nearest name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import iter_source
from smolrgpt.data.sources.samples import FIELDS
from smolrgpt.evaluation.score import true_answer
from smolrgpt.train.answers import brief_answer

ROW: dict[str, Any] = {"image": "a.png", "regions": [{"box": [2, 3, 20, 30]}], "question": "How tall is <region 0>?"}


def read(folder: Path, *rows: dict[str, Any], start: str = "", end: str = "\n") -> tuple[list[Any], SkipLog]:
    Image.new("RGB", (64, 48)).save(folder / "a.png")
    (folder / "rows.jsonl").write_bytes((start + end.join(map(json.dumps, rows))).encode())
    skips = SkipLog()
    return list(iter_source("samples", folder / "rows.jsonl", "", skips=skips)), skips


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("question", "questions")])
@pytest.mark.parametrize("spell", [lambda name: name + "s", lambda name: name.upper(), lambda name: name[:-1]])
def test_a_misspelt_field_is_refused_with_the_nearest_name(tmp_path: Path, name: str, spell: Any) -> None:
    samples, skips = read(tmp_path, ROW | {spell(name): None}, ROW)
    assert len(samples) == 1 and skips.counts == {"unusable row": 1}
    assert f"unknown field {spell(name)!r}; did you mean {name}?" in skips.examples["unusable row"][0]


def test_a_field_like_no_other_is_refused_with_all_names(tmp_path: Path) -> None:
    samples, skips = read(tmp_path, ROW | {"xyzzy": 1})
    assert not samples and "unknown field 'xyzzy'; expected id, image" in skips.summary()


def test_metadata_may_hold_anything(tmp_path: Path) -> None:
    metadata = {"xyzzy": [1, {"a": None}]}
    (sample,), skips = read(tmp_path, ROW | {"metadata": metadata})
    assert sample.metadata == metadata and not skips.total


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"questions": ["How wide is <region 0>?"]}, "expected one of the two"),
        ({"question": None, "questions": []}, "at least one"),
        ({"question": None, "questions": ["<region 0>?", "Is <region 0> tall?"], "answer": "Yes."}, "one answer for 2 questions"),
        ({"metadata": 3}, "metadata"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    samples, skips = read(tmp_path, ROW | changes)
    assert not samples and skips.total == 1 and expected in skips.summary()


def test_an_answer_names_regions_by_their_position_in_the_question(tmp_path: Path) -> None:
    row = ROW | {"regions": [{"box": [x, 3, x + 9, 30]} for x in (2, 20, 40)], "question": "Is <region 2> left of <region 0>?"}
    answers = {"No, region 2 is right of [Region 0].": "No, [Region 0] is right of [Region 1].", "No.": "No.", "[Region 1] is.": None}
    samples, skips = read(tmp_path, *(row | {"answer": answer} for answer in answers))
    assert [sample.answer for sample in samples] == [answer for answer in answers.values() if answer]
    assert skips.total == 1 and "names region 1, which the question does not mention" in skips.summary()


def test_a_short_answer_names_the_region_that_the_answer_names(tmp_path: Path) -> None:
    """Training sees positions in the question, scoring the numbers of the row."""
    row = ROW | {"regions": [{"box": [x, 3, x + 9, 30]} for x in (2, 20, 40)], "category": "mcq"}
    row |= {"question": "Which is leftmost, <region 2>, <region 1> or <region 0>?", "answer": "[Region 0] is.", "normalized_answer": "0"}
    (sample, same), skips = read(tmp_path, row, row | {"category": None, "normalized_answer": 0}, row | {"normalized_answer": "5"})
    assert (sample.answer, sample.normalized_answer, same.normalized_answer) == ("[Region 2] is.", "2", "2")
    assert true_answer(sample) == "0" and brief_answer(sample) == "[Region 2]: 2"
    assert skips.total == 1 and "a region that the question mentions" in skips.summary()


@pytest.mark.parametrize("name", ["image", "depth"])
def test_files_may_be_named_as_on_windows_or_not_exist(tmp_path: Path, name: str) -> None:
    (tmp_path / "below").mkdir()
    Image.new("L", (64, 48), 9).save(tmp_path / "below" / "b.png")
    (sample,), _ = read(tmp_path, ROW | {name: "below\\b.png"})
    assert tmp_path / "below" / "b.png" in (sample.image, sample.depth and sample.depth.source)
    for absent in ("c.png", "a" * 999, "below/" + "a" * 999, "a\x00b", ""):
        samples, skips = read(tmp_path, ROW | {name: absent})
        assert not samples and skips.counts == {f"missing {name}": 1}


def test_a_misspelt_field_of_a_camera_is_refused(tmp_path: Path) -> None:
    camera = {"fx": 60, "fy": 60, "cx": 32, "cy": 24}
    good = [
        camera,
        camera | {"width": 64, "height": 48},
        {"K": [60, 0, 32, 0, 60, 24, 0, 0, 1], "frame_id": "x", "width": 64, "height": 48},
    ]
    samples, skips = read(tmp_path, *(ROW | {"camera": value} for value in [*good, camera | {"widht": 64}]))
    assert len(samples) == 3 and skips.total == 1 and "unknown field 'widht'; did you mean width?" in skips.summary()


def test_byte_order_marks_and_line_ends_change_nothing(tmp_path: Path) -> None:
    assert len({str(read(tmp_path, ROW, ROW, start=start, end=end)) for start in ("", "\ufeff") for end in ("\n", "\r\n")}) == 1
