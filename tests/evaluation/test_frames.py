"""Laws of the frames benchmark: the form of its folders, its figures, and the rules on measured points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_folder import write_frames
from test_report import Parrot

from smolrgpt.data.loading import SkipLog
from smolrgpt.data.sources import iter_source, read_source
from smolrgpt.data.sources.frames import SETTINGS, WORDINGS
from smolrgpt.evaluation.benchmarks.frames import FramesBenchmark
from smolrgpt.evaluation.evaluate import EvaluationOptions, evaluate
from smolrgpt.evaluation.measured import MeasuringPredictor
from smolrgpt.evaluation.rules import RULES
from smolrgpt.evaluation.score import true_answer
from smolrgpt.schema import Answer, DataError, Sample

FRAMES = FramesBenchmark()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("frames")
    write_frames(root)
    return root


def _rows(samples: list[Sample], value: Any) -> list[dict[str, Any]]:
    return [{"id": s.id, "category": s.category, "answer": "", "normalized_answer": value(s), "confidence": 0.9} for s in samples]


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_gives_what_its_name_states(folder: Path, setting: str, wording: str) -> None:
    samples = read_source("frames", folder, "questions", setting=setting, wording=wording)
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        assert (sample.camera is not None) == (setting == "metric_camera")
        assert (sample.depth is None) == (setting == "none")
        kind = None if sample.depth is None else sample.depth.load().kind  # type: ignore[union-attr]
        assert kind == {"metric_camera": "metric", "metric": "metric", "relative": "relative", "none": None}[setting]
        assert ("the mug" in sample.question) == (wording == "natural" and "mug" in sample.metadata["names"])
        assert len(sample.regions) == len(sample.region_indices) == sample.metadata["num_regions"]
    assert len({sample.image_key for sample in samples}) == 2  # one encoding per frame


def test_regions_keep_the_indices_of_the_row(folder: Path) -> None:
    for sample in read_source("frames", folder, "questions"):
        if sample.metadata["kind"] == "leftmost":
            assert sample.region_indices == (3, 2, 1, 0)


@pytest.mark.parametrize(
    "change", [{"image": "no.png"}, {"depth": "no.png"}, {"depth": None}, {"camera": None}, {"question": "<region 9>?"}]
)
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    lines = (folder / "questions.jsonl").read_text().splitlines()[:3]
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "questions.jsonl").unlink()
    (tmp_path / "questions.jsonl").write_text("\n".join([json.dumps({**json.loads(lines[0]), **change}), *lines[1:]]))
    skips = SkipLog()
    assert len(list(iter_source("frames", tmp_path, "questions", skips=skips))) == 2
    assert skips.total == 1 and next(iter(change)) in skips.summary()


@pytest.mark.parametrize("options", [{"wording": "loud"}, {"setting": "deep"}])
def test_unknown_options_name_the_known_ones(folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(DataError, match="expected one of"):
        read_source("frames", folder, "questions", **options)


def test_true_answers_are_all_right_and_agree_over_frames(folder: Path, tmp_path: Path) -> None:
    benchmark = FramesBenchmark(list(WORDINGS), list(SETTINGS))
    result = evaluate(Parrot(), folder, tmp_path, EvaluationOptions(benchmark=benchmark, progress=False))
    assert list(result["variants"]) == [f"{setting}/{wording}" for setting in SETTINGS for wording in WORDINGS]
    assert all(set(found["accuracy"].values()) == {100.0} for found in result["variants"].values())
    assert result["consistency"] == {"num_sequences": 17 * 12, "lengths": 100.0, "choices": 100.0}
    assert result["num_questions"] == 34 and set(result["groups"]["By what is asked"]) >= {"closest", "tallest", "within"}
    text = (tmp_path / "report.md").read_text()
    assert "metric_camera/natural" in text and "rules" in text and (tmp_path / "report.html").stat().st_size > 1000


@pytest.mark.parametrize(("factor", "near", "wide"), [(1.0, 100, 100), (1.099, 100, 100), (0.901, 100, 100), (1.2, 0, 100), (0.74, 0, 0)])
def test_lengths_are_right_within_a_tenth_and_nearly_within_a_quarter(folder: Path, factor: float, near: float, wide: float) -> None:
    samples = [sample for sample in FRAMES.load(folder, None, "auto") if sample.category in ("distance", "height")]
    result = FRAMES.score(samples, _rows(samples, lambda s: s.normalized_answer * factor))
    assert set(result["accuracy"].values()) == {near} and set(result["within_25"].values()) == {wide}
    assert all(ratio == pytest.approx(factor) for ratio in result["ratio"].values())


def test_refusals_misread_and_missing_answers_are_counted_apart(folder: Path) -> None:
    samples = FRAMES.load(folder, None, "auto")[:4]
    rows = _rows(samples, true_answer)
    rows[0]["normalized_answer"] = None
    rows[1]["category"] = "other"
    rows[2]["normalized_answer"] = "elephant"
    result = FRAMES.score(samples, rows[:3])
    assert result["problem_counts"] == {"refused": 1, "unparsable": 1, "missing": 1}
    assert (result["num_correct"], result["num_refused"], result["num_misread"]) == (1, 3, 1)


def test_answers_that_flip_between_frames_are_seen(folder: Path) -> None:
    samples = FRAMES.load(folder, None, "auto")
    rows = _rows(samples, true_answer)
    for row, sample in zip(rows, samples, strict=True):
        if sample.metadata["frame"] == "1" and isinstance(sample.normalized_answer, float):
            row["normalized_answer"] *= 1.05  # right, but not the same
    assert FRAMES.score(samples, rows)["consistency"] == {"num_sequences": 17, "lengths": 0.0, "choices": 100.0}


@pytest.mark.parametrize("scale", [0.3, 1.0, 8.0])
def test_rules_measure_a_scene_of_any_scale(tmp_path: Path, scale: float) -> None:
    write_frames(tmp_path, 1, scale)
    samples = [replace(sample, metadata={**sample.metadata, "threshold_m": 0.42 * scale}) for sample in FRAMES.load(tmp_path, None, "auto")]
    for sample, answer in zip(samples, RULES["rules-measured"]().predict_samples(samples, 8), strict=True):
        if isinstance(sample.normalized_answer, float):
            assert answer.normalized_answer == pytest.approx(sample.normalized_answer, rel=0.25)
        else:
            assert answer.normalized_answer == true_answer(sample)


@pytest.mark.parametrize("setting", ["relative", "none"])
def test_rules_refuse_what_cannot_be_measured(folder: Path, setting: str) -> None:
    samples = read_source("frames", folder, "questions", setting=setting)
    answers: list[Answer] = MeasuringPredictor().predict_samples(samples)
    for sample, answer in zip(samples, answers, strict=True):
        if sample.category in ("left_right", "distance", "height") or sample.metadata["kind"] in ("within", "tallest"):
            assert (answer.normalized_answer is None) == (sample.category != "left_right")


def test_rules_have_no_answer_to_other_kinds_and_to_other_data(folder: Path) -> None:
    sample = FRAMES.load(folder, None, "auto")[0]
    other = replace(sample, metadata={**sample.metadata, "kind": "heaviest"})
    assert MeasuringPredictor().predict_samples([other])[0].normalized_answer is None
    with pytest.raises(DataError, match="--benchmark frames"):
        MeasuringPredictor().predict_samples([replace(sample, metadata={})])


def test_the_command_asks_in_every_setting(folder: Path, command: Any) -> None:
    arguments = ["evaluate", "rules-measured", folder, "--benchmark", "frames"]
    code, out, _ = command(*arguments, "--setting", "metric_camera", "--setting", "metric", "--wording", "plain", "--json")
    assert code == 0 and list(json.loads(out)["variants"]) == ["metric_camera/plain", "metric/plain"]
    code, out, err = command("evaluate", "rules-measured", folder, "--setting", "none")
    assert code != 0 and "--wording and --setting are for frames" in err
    code, out, err = command(*arguments, "--depth", "metric")
    assert code != 0 and "--setting" in err
    code, out, err = command(*arguments, "--setting", "deep")
    assert code != 0 and "metric_camera, metric, relative, none" in err


@pytest.mark.realdata
def test_rules_on_real_frames(shared_path: Any) -> None:
    root = shared_path("samples/rgbd/real_dev")
    samples = FRAMES.load(root, None, "auto")
    rows = [
        {"id": sample.id, "normalized_answer": answer.normalized_answer, "confidence": None}
        for sample, answer in zip(samples, MeasuringPredictor().predict_samples(samples), strict=True)
    ]
    result = FRAMES.score(samples, rows)
    stated = {
        "left_right": 99,
        "count": 99,
        "mcq": 99,
        "height": 99,
        "distance": 95.5,
        "width": 95,
    }  # 99, 96 and 98 (one of 43 more) in its README
    assert np.all([result["accuracy"][name] >= least for name, least in stated.items()])
