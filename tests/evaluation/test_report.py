"""predict -> score -> report with a predictor that needs no model: grouping, resuming, bad samples, the written page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolrgpt.data.io import read_rows
from smolrgpt.evaluation.evaluate import EvaluationOptions, evaluate
from smolrgpt.evaluation.predict import predict
from smolrgpt.evaluation.replay import ReplayPredictor
from smolrgpt.evaluation.report.markdown import to_markdown
from smolrgpt.evaluation.report.warehouse import warehouse_report
from smolrgpt.evaluation.score import score, true_answer
from smolrgpt.schema import Answer, DataError, Region, Sample
from smolrgpt.schema.inputs_read import InputsRead

REGION = Region((4, 4), "`0P1")
QUIET = EvaluationOptions(progress=False)


def _markdown(result: dict[str, Any]) -> str:
    return to_markdown(warehouse_report(result))


class Parrot:
    """Answers with the truth; images named 'bad' cannot be loaded; ``die_after`` calls it is interrupted."""

    def __init__(self, die_after: int | None = None) -> None:
        self.calls: list[list[str]] = []
        self.die_after = die_after

    def predict_samples(self, samples: list[Sample], batch_size: int) -> list[Answer]:
        if self.die_after is not None and len(self.calls) >= self.die_after:
            raise KeyboardInterrupt
        self.calls.append([sample.id for sample in samples])
        if bad := [sample for sample in samples if sample.image == Path("bad.png")]:
            raise DataError(f"{bad[0].image}: truncated")
        return [Answer(str(s.answer), true_answer(s), str(s.category), seconds=0.01, confidence=0.5) for s in samples]


def _samples(num_images: int = 3, bad: int | None = None) -> list[Sample]:
    """Four questions an image, the images interleaved."""
    kinds = [("left_right", "left", 2), ("count", 2, 5), ("mcq", "1", 3), ("distance", 2.5, 2)]
    return [
        Sample(
            id=f"{image}-{category}",
            image=Path("bad.png" if image == bad else f"{image}.png"),
            question=f"{category}? " + "<mask> " * regions,
            regions=[REGION] * regions,
            answer=str(truth),
            normalized_answer=truth,
            category=category,
            metadata={"layout": "aisles" if image % 2 else "open"},
        )
        for category, truth, regions in kinds
        for image in range(num_images)
    ]


def test_questions_of_an_image_go_together_and_rows_keep_the_order() -> None:
    samples, parrot = _samples(), Parrot()
    rows = predict(parrot, samples, batch_size=8, progress=False)
    assert [row["id"] for row in rows] == [sample.id for sample in samples]
    assert [len(call) for call in parrot.calls] == [8, 4]
    assert {name.split("-")[0] for name in parrot.calls[0]} == {"0", "1"}


def test_doubtful_inputs_are_in_their_rows_and_counted_once_per_image(caplog: pytest.LogCaptureFixture) -> None:
    class Doubting(Parrot):
        def predict_samples(self, samples: list[Sample], batch_size: int) -> list[Answer]:
            found = super().predict_samples(samples, batch_size)
            warnings = [() if s.image == Path("0.png") else (f"the depth map ends at 0.{s.id[0]} m",) for s in samples]
            return [replace(a, inputs=InputsRead(warnings=w)) for a, w in zip(found, warnings, strict=True)]

    samples = _samples(num_images=4)
    rows = predict(Doubting(), samples, batch_size=8, progress=False)
    assert [row["id"] for row in rows if "warnings" in row] == [s.id for s in samples if s.image != Path("0.png")]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "3 x the depth map ends at N m" in message and "1.png: the depth map ends at 0.1 m" in message


def test_an_image_that_cannot_be_loaded_costs_only_its_own_questions(caplog: pytest.LogCaptureFixture) -> None:
    samples = _samples(bad=1)
    rows = predict(Parrot(), samples, batch_size=64, progress=False)
    assert [row["id"] for row in rows if "error" in row] == [sample.id for sample in samples if sample.image == Path("bad.png")]
    assert "4 x cannot be loaded" in caplog.text
    result = evaluate(Parrot(), samples, options=QUIET)
    assert (result["num_correct"], result["problem_counts"]) == (8, {"unparsable": 4})
    assert "truncated" in result["problems"][0]["reason"]


@pytest.mark.parametrize("name", ["predictions.json", "predictions.jsonl"])
def test_an_interrupted_run_goes_on(tmp_path: Path, name: str) -> None:
    samples, path = _samples(), tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        predict(Parrot(die_after=1), samples, path, batch_size=4, progress=False, run_id="a")
    partial = path.with_name(name + ".partial")
    partial.write_text(partial.read_text() + '{"id": "1-le')  # the interruption came in the middle of a line
    assert not path.exists()
    parrot = Parrot()
    rows = predict(parrot, samples, path, batch_size=4, progress=False, run_id="a")
    assert sum(map(len, parrot.calls)) == 8
    assert rows == predict(Parrot(), samples, progress=False) == read_rows(path)
    assert not partial.exists()


def test_another_run_is_never_continued(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    with pytest.raises(KeyboardInterrupt):
        predict(Parrot(die_after=1), _samples(), path, batch_size=4, progress=False, run_id="a")
    parrot = Parrot()
    predict(parrot, _samples(), path, batch_size=4, progress=False, run_id="b")
    assert sum(map(len, parrot.calls)) == 12


def test_evaluate_writes_the_result_and_the_page(tmp_path: Path) -> None:
    result = evaluate(Parrot(), _samples(), tmp_path / "new" / "folder", EvaluationOptions(name="parrot", progress=False))
    assert (result["S1"], result["num_questions"]) == (100.0, 12)
    assert result["by_layout"]["open"] == {"S1": 100.0, "accuracy": dict.fromkeys(result["accuracy"], 100.0), "num_questions": 8}
    assert {name: group["num_questions"] for name, group in result["by_num_regions"].items()} == {"2": 6, "3 to 5": 6}
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.json", "report.html", "report.md", "results.json"]
    assert json.loads((folder / "results.json").read_text()) == result
    page = (folder / "report.md").read_text()
    assert page.startswith("# parrot: S1 100.00")
    for text in ("SmolRGPT, published", "90.68", "Another data set", "By layout", "| aisles | 4 |", "Confidence", "Environment"):
        assert text in page


def test_the_page_also_shows_a_plain_score() -> None:
    truth = [{"id": "a", "category": "distance", "normalized_answer": 0}]
    page = _markdown(score(truth, [{"id": "a", "normalized_answer": 1}, {"id": "b|c", "normalized_answer": 1}]))
    assert "meaningless" in page
    assert "b\\|c" in page
    assert "By layout" not in page


def test_limit_draws_the_same_questions_every_time() -> None:
    first, second = (Parrot(), Parrot())
    assert evaluate(first, _samples(), options=EvaluationOptions(limit=5, progress=False))["num_questions"] == 5
    evaluate(second, _samples(), options=EvaluationOptions(limit=5, progress=False))
    assert first.calls == second.calls
    with pytest.raises(ValueError, match="limit is 0"):
        evaluate(Parrot(), _samples(), options=EvaluationOptions(limit=0, progress=False))


def test_data_without_answers_cannot_be_evaluated() -> None:
    samples = _samples()
    for sample in samples:
        sample.normalized_answer = None
    with pytest.raises(DataError, match="no sample has an answer"):
        evaluate(Parrot(), samples, options=QUIET)


def test_answers_of_a_file_are_reported_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = _samples()
    first = evaluate(Parrot(), samples, tmp_path / "first", QUIET)
    again = evaluate(ReplayPredictor(tmp_path / "first" / "predictions.json"), samples, tmp_path / "again", QUIET)
    changing = ("environment", "seconds_per_question")
    assert {k: v for k, v in first.items() if k not in changing} == {k: v for k, v in again.items() if k not in changing}
    rows = [{"id": sample.id, "answer": "to the left"} for sample in samples[1:] if sample.category == "left_right"]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = evaluate(ReplayPredictor(tmp_path / "other.jsonl"), samples, options=QUIET)
    assert result["accuracy"]["left_right"] == pytest.approx(200 / 3) and result["calibration"] is None
    assert "no prediction for the question '0-left_right'" in caplog.text


def test_other_predictions_are_scored_on_the_same_questions(tmp_path: Path) -> None:
    samples = _samples(12)
    evaluate(Parrot(), samples, tmp_path / "right", QUIET)
    wrong = [{"id": s.id, "answer": "", "normalized_answer": None} for s in samples if s.category == "count"]
    (tmp_path / "worse.jsonl").write_text("\n".join(map(json.dumps, read_rows(tmp_path / "right" / "predictions.json")[:12] + wrong)))
    others = {
        "same": tmp_path / "right" / "predictions.json",
        "worse": tmp_path / "worse.jsonl",
        "file": tmp_path / "right" / "results.json",
    }
    result = evaluate(Parrot(), samples, tmp_path / "out", EvaluationOptions(compare_with=others, progress=False))
    assert result["compared"]["same"] == {"S1": 100.0, "accuracy": result["accuracy"], "difference": [0.0, 0.0]}
    assert result["compared"]["worse"]["S1"] == 25.0 and result["compared"]["worse"]["difference"] == [-75.0, -75.0]
    assert result["compared"]["file"] == {"S1": 100.0, "accuracy": result["accuracy"]}
    for page in ("report.md", "report.html"):
        assert "worse" in (tmp_path / "out" / page).read_text()
    with pytest.raises(DataError, match="nothing to compare with"):
        evaluate(Parrot(), samples, options=EvaluationOptions(compare_with={"none": tmp_path / "none.json"}, progress=False))


def test_the_page_needs_nothing_from_outside_and_escapes_what_it_shows(tmp_path: Path) -> None:
    samples = _samples(bad=1)
    samples[0].question = "<script>alert(1)</script> <mask> <mask>"
    evaluate(Parrot(), samples, tmp_path, EvaluationOptions(name="<b>parrot</b>", progress=False))
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and "<b>parrot" not in page and "http" not in page.split("</head>")[1]
    for text in (
        "95 % interval",
        "Confusions",
        "Expected calibration error",
        "The image cannot be drawn",
        "prefers-color-scheme",
    ):
        assert text in page


@pytest.mark.parametrize("value", [1e200, "1e308", 1e-320])
def test_absurd_distances_are_wrong_and_the_result_stays_json(value: float | str) -> None:
    truth = [{"id": "a", "category": "distance", "normalized_answer": 1.0}]
    result = score(truth, [{"id": "a", "normalized_answer": value}])
    assert result["num_correct"] == 0 and "0 correct" in _markdown(result)
    json.dumps(result, allow_nan=False)
