"""Rules from free text to the normalised answer, on real answers where they are at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from smolrgpt.evaluation.score import score_answer
from smolrgpt.tasks import read_answer, recognise, task_named

WAREHOUSE = Path(__file__).parents[2] / "../shared/samples/warehouse"

SIDE = "Is the pallet <mask> to the right of the pallet <mask>?"
COUNT = "How many pallets are in the leftmost buffer region, given the buffer masks <mask> <mask> and pallet masks <mask> <mask>?"
CHOICE = "Which pallet in <mask> <mask> should be assigned to an idle transporter in <mask> <mask>?"
FAR = "How far is the pallet <mask> from the pallet <mask>?"


def _rows() -> list[dict]:
    rows = json.loads((WAREHOUSE / "qa_text.json").read_text())
    for name in ("records.json", "records_partial.json", "mini/train.json", "mini/val.json"):
        for row in json.loads((WAREHOUSE / name).read_text()):
            question, answer = (turn["value"] for turn in row["conversations"])
            rows.append({**row, "question": question, "answer": answer})
    return rows


@pytest.mark.realdata
@pytest.mark.skipif(not WAREHOUSE.exists(), reason="the real samples are not here")
def test_every_known_answer_is_read_from_its_text() -> None:
    rows = _rows()
    assert {row["category"] for row in rows} == {"left_right", "count", "mcq", "distance"}
    for row in rows:
        assert recognise(row["question"]).name == row["category"], row["question"]
        found = read_answer(row["question"], row["answer"])
        assert read_answer(row["question"], row["answer"], task_named(row["category"])) == found
        if not row["answer"]:
            assert found is None
            continue
        assert found is not None, row["answer"]
        if (known := row["normalized_answer"]) is not None:
            assert score_answer(row["category"], known, found).is_correct, row
            assert str(known) == str(found) or float(known) == found, row


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        (SIDE, "left", "left"),
        (SIDE, "Right.", "right"),
        (SIDE, "The pallet [Region 1] is to the left of the pallet [Region 0].", "right"),
        (SIDE, "No, it is not.", "left"),
        (SIDE, "It is between left and right.", None),
        (COUNT, "3", 3),
        (COUNT, "two", 2),
        (COUNT, "The buffer region [Region 0] is the leftmost. You can find pallets [Region 2] [Region 3] inside.", 2),
        (COUNT, "Therefore, there are no pallets in the buffer region [Region 0].", 0),
        (COUNT, "Hence, the buffer area [Region 7] has 4 pallets.", 4),
        (CHOICE, "[Region 12]", "12"),
        (CHOICE, "4", "4"),
        (CHOICE, "The transporter [Region 2] is empty. The closest pallet to transporter [Region 2] is the pallet [Region 1].", "1"),
        (CHOICE, "[Region 0] is 4.2 meters away from [Region 2]. [Region 1] is 2.0 meters away from [Region 2]. [Region 1]", "1"),
        (CHOICE, "The pallet <region 3> is the nearest to the transporter <region 1>.", "3"),
        (FAR, "2.32", 2.32),
        (FAR, "0", 0),
        (FAR, "The pallet [Region 0] and the pallet [Region 1] are 4.90 meters apart.", 4.9),
        (FAR, "The pallet [Region 0] is 250 cm from the pallet [Region 1]", 2.5),
        (FAR, "The pallet [Region 0] is located within the buffer region [Region 1].", 0),
        (FAR, "They are 4.4.4 meters apart.", None),
    ],
)
def test_short_forms_and_chains(question: str, answer: str, expected: object) -> None:
    found = read_answer(question, answer)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("garbage", ["", "   ", "!!!!!!!!!!", "\n\n", "...", "9" * 5000, "[Region", "é" * 100, "<mask>"])
@pytest.mark.parametrize("question", [SIDE, COUNT, CHOICE, FAR])
def test_garbage_has_no_answer(question: str, garbage: str) -> None:
    assert read_answer(question, garbage) is None


@pytest.mark.parametrize(
    ("question", "category"),
    [
        ("How tall is the pallet <mask>?", "height"),
        ("What is the height of <mask>?", "height"),
        ("How wide is <mask>?", "width"),
        ("What is the vertical distance between <mask> and <mask>?", "vertical"),
        ("Which of <mask> <mask> has the greatest height?", "mcq"),
        ("How many pallets are as wide as <mask>?", "count"),
    ],
)
def test_questions_about_sizes(question: str, category: str) -> None:
    assert recognise(question).name == category
    assert category in ("mcq", "count") or read_answer(question, "[Region 0] height: 1.29") == 1.29


def test_questions_of_no_category() -> None:
    assert recognise("Describe the image.").name == "other"
    assert read_answer("Describe the image.", "A warehouse.") is None


def test_scoring_needs_no_torch() -> None:
    code = "import sys, smolrgpt.tasks, smolrgpt.evaluation.score; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")}, check=False).returncode
        == 0
    )
