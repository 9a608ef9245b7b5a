"""The warehouse score: golden numbers, the official quirks, and what happens to bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smolrgpt.data.io import read_rows
from smolrgpt.evaluation.score import MAX_PROBLEMS, score, score_answer
from smolrgpt.schema import DataError

SCORER = Path(__file__).parents[2] / "../shared/samples/warehouse/scorer"
TRUTH = [
    {"id": "a", "category": "left_right", "normalized_answer": "left"},
    {"id": "b", "category": "count", "normalized_answer": 3},
    {"id": "c", "category": "mcq", "normalized_answer": "4"},
    {"id": "d", "category": "distance", "normalized_answer": "6.36"},
    {"id": "e", "category": "distance", "normalized_answer": 0},
]


@pytest.mark.realdata
@pytest.mark.skipif(not SCORER.exists(), reason="the real samples are not here")
@pytest.mark.parametrize(
    ("name", "correct", "expected"),
    [
        ("perfect", {"count": 500, "distance": 486, "left_right": 500, "mcq": 456}, 100.0),
        ("random", {"count": 60, "distance": 46, "left_right": 271, "mcq": 37}, 20.94),
    ],
)
def test_golden_scores(name: str, correct: dict[str, int], expected: float) -> None:
    result = score(read_rows(SCORER / "truth.json"), read_rows(SCORER / f"predictions_{name}.json"), strict=True)
    assert {category: counts["num_correct"] for category, counts in result["by_category"].items()} == correct
    assert round(result["S1"], 2) == expected
    assert (result["num_questions"], result["num_correct"], result["problem_counts"]) == (1942, sum(correct.values()), {})


@pytest.mark.parametrize(
    ("category", "truth", "pred", "right"),
    [
        ("left_right", "left", " Left-Hand ", True),
        ("left_right", "left", "l", True),
        ("left_right", "left", "Left.", False),
        ("left_right", "left", "the left", False),
        ("mcq", "3", 3, True),
        ("mcq", "3", "[Region 3]", True),
        ("mcq", "3", "region three", True),
        ("mcq", "1", "none", True),  # "none" -> "n1" -> 1: the official script's quirk
        ("mcq", "3", "03", False),
        ("mcq", "3", "third", False),
        ("count", 3, "3.7", True),
        ("count", 3, "three", False),
        ("count", 3, None, False),
        ("distance", 10, 9.0, True),
        ("distance", 10, "11.0", True),
        ("distance", 10, 11.01, False),
        ("distance", 10, 8.99, False),
        ("distance", 0, 0.0, True),
        ("distance", 0, 0.01, False),
        ("distance", 10, "nan", False),
        ("distance", 10, [10], False),
    ],
)
def test_row_rules(category: str, truth: object, pred: object, right: bool) -> None:
    assert score_answer(category, truth, pred).is_correct is right


def test_an_unknown_category_is_an_error() -> None:
    with pytest.raises(ValueError, match="'width'"):
        score_answer("width", 1, 1)


def test_s1_is_the_mean_over_the_categories_present() -> None:
    result = score(TRUTH[:2], [{"id": "a", "normalized_answer": "left"}, {"id": "b", "normalized_answer": 2}])
    assert result["accuracy"] == {"left_right": 100.0, "count": 0.0}
    assert result["S1"] == 50.0
    assert result["error_rates"]["count"] == pytest.approx(1 / 3)
    assert result["error_rates"]["distance"] is None


def test_bad_rows_are_wrong_and_reported() -> None:
    predictions = [
        {"id": "a", "normalized_answer": "up"},
        {"id": "b", "normalized_answer": "many"},
        {"id": "c", "normalized_answer": None, "answer": "!!!"},
        {"id": "d", "normalized_answer": 6.3},
        {"id": "d", "normalized_answer": 99},
        {"id": "x", "normalized_answer": 1},
    ]
    result = score(TRUTH, predictions)
    assert result["num_correct"] == 0
    assert result["num_questions"] == 5
    assert result["problem_counts"] == {"unparsable": 3, "missing": 1, "extra": 1, "duplicate": 1}
    assert {problem["id"] for problem in result["problems"]} == set("abcdex")
    with pytest.raises(DataError, match="1 missing"):
        score(TRUTH, predictions, strict=True)


def test_the_list_of_problems_is_bounded_and_the_count_is_not() -> None:
    truth = [{"id": i, "category": "count", "normalized_answer": 1} for i in range(3 * MAX_PROBLEMS)]
    result = score(truth, [])
    assert (len(result["problems"]), result["problem_counts"]) == (MAX_PROBLEMS, {"missing": 3 * MAX_PROBLEMS})


def test_zero_distances_are_kept_apart() -> None:
    result = score(TRUTH[3:], [{"id": "d", "normalized_answer": 6.36 * 1.05}, {"id": "e", "normalized_answer": 1.0}])
    assert result["distance"]["excluding_zero_truth"] == pytest.approx({"num_rows": 1, "abs_rel": 0.05, "rmse": 0.318, "a1": 100.0})
    assert result["distance"]["including_zero_truth"]["a1"] == 50.0
    assert result["distance"]["including_zero_truth"]["abs_rel"] > 1e6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no row"),
        ([{"id": "a", "category": "count"}], "test split"),
        ([{"id": "a", "category": "count", "normalized_answer": "many"}], "'many'"),
        ([{"category": "count"}], "row 0"),
    ],
)
def test_truth_that_cannot_be_scored_is_an_error(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(rows, [])


@pytest.mark.parametrize(
    ("category", "truth", "answer", "explanation"),
    [
        ("count", 3, "3", ""),
        ("count", 3, 2, "count: 2, the truth is 3"),
        ("mcq", "1", "region four", "mcq: [Region 4], the truth is [Region 1]"),
        ("distance", 10, 12.5, "distance: 12.5 m, the truth is 10.0 m"),
        ("distance", 10, "far", "distance: 'far' is no answer of this category"),
        ("left_right", "left", None, "left_right: 'None' is no answer of this category"),
    ],
)
def test_a_score_explains_what_is_wrong(category: str, truth: object, answer: object, explanation: str) -> None:
    found = score_answer(category, truth, answer)
    assert (found.is_correct, found.explanation) == (not explanation, explanation)


def test_unscored_categories_are_left_out_and_reported() -> None:
    result = score([*TRUTH, {"id": "w", "category": "width", "normalized_answer": 1.2}], TRUTH)
    assert (result["S1"], result["num_questions"], result["problem_counts"]) == (100.0, 5, {"unscored_category": 1})


def test_json_and_json_lines_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps(TRUTH))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, TRUTH)) + "\n\n")
    assert read_rows(tmp_path / "list.json") == read_rows(tmp_path / "lines.jsonl") == TRUTH
    assert score(read_rows(tmp_path / "list.json"), read_rows(tmp_path / "lines.jsonl"))["S1"] == 100.0


@pytest.mark.parametrize(
    ("text", "message"), [("", "an empty file"), ('{"id": 1}\n{"id"', "line 2"), ("[1]", "found 1"), ('[{"id": 1}', "not JSON")]
)
def test_files_that_cannot_be_read_say_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_rows(path)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="cannot read"):
        read_rows(tmp_path / "absent.json")
