"""Intervals, chance, groups, calibration and worst answers: laws that hold for any answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolrgpt.evaluation.score import score
from smolrgpt.evaluation.summary import (
    INTERVAL,
    accuracies,
    calibration,
    chance_level,
    confusion,
    group_accuracies,
    intervals,
    score_samples,
    summarise,
    truth_row,
    worst_answers,
)
from smolrgpt.schema import Region, Sample
from smolrgpt.tasks import TASKS
from smolrgpt.tasks.distance import OFFICIAL_TOLERANCE

REGION = Region.from_box([1, 1, 3, 3], 4, 4)


def _samples(num_images: int = 40, seed: int = 0) -> list[Sample]:
    rng = random.Random(seed)
    truths: dict[str, Any] = {
        "left_right": lambda: rng.choice(["left", "right"]),
        "count": lambda: rng.choice([1, 1, 2, 3]),
        "mcq": lambda: str(rng.randrange(4)),
        "distance": lambda: rng.choice([0, round(rng.uniform(1, 12), 2)]),
    }
    return [
        Sample(
            id=f"{image}-{category}",
            image=Path(f"{image}.png"),
            question=f"{category}? " + "<mask> " * 4,
            regions=[REGION] * 4,
            normalized_answer=truth(),
            category=category,
            metadata={"layout": "aisles" if image % 2 else "open"},
        )
        for image in range(num_images)
        for category, truth in truths.items()
    ]


def _answers(samples: list[Sample], share_right: float = 0.7, seed: int = 1) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    wrong = {"left_right": "up", "count": 9, "mcq": "7", "distance": 50.0}
    rows = []
    for sample in samples:
        right = rng.random() < share_right
        answer = sample.normalized_answer if right else wrong[str(sample.category)]
        rows.append({"id": sample.id, "answer": "", "normalized_answer": answer, "confidence": rng.random() ** (0.5 if right else 2)})
    return rows


def test_parts_add_up_to_the_score() -> None:
    samples = _samples()
    rows = _answers(samples)
    result = summarise(samples, rows)
    plain = score(map(truth_row, samples), rows)
    assert {key: result[key] for key in plain} == plain
    scored = score_samples(samples, rows)
    assert accuracies(scored) == {key: plain[key] for key in ("S1", "accuracy", "num_questions")}
    assert result["calibration"]["coverage"][-1] == {"coverage": 1.0, "S1": plain["S1"]}
    assert group_accuracies(scored, lambda row: "all") == {"all": accuracies(scored)}
    for groups in (result["by_layout"], result["by_num_regions"], result["by_region_size"]):
        assert sum(group["num_questions"] for group in groups.values()) == len(samples)
    assert sum(group["num_questions"] for group in result["by_distance"].values()) == plain["by_category"]["distance"]["num_questions"]
    assert sum(row["num_questions"] for row in result["by_template"]) == len(samples)
    for category in ("left_right", "count", "mcq"):
        cells = confusion(score_samples(samples, rows), TASKS[category])
        assert sum(cell["number"] for cell in cells if cell["truth"] == cell["answer"]) == plain["by_category"][category]["num_correct"]
    assert result["by_distance"]["0 m"]["num_questions"] == sum(sample.normalized_answer == 0 for sample in samples)


def test_the_interval_holds_the_score_and_shrinks_with_more_images() -> None:
    widths = []
    for number in (20, 320):
        samples = _samples(number)
        scored = score_samples(samples, _answers(samples))
        found, (low, high) = summarise(samples, _answers(samples))["S1"], intervals(scored)["S1"]
        assert low < found < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2.5  # a quarter, were it not for chance
    assert intervals(scored) == intervals(scored)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    share, covered, trials = 0.7, 0, 100
    samples = _samples(60)
    for trial in range(trials):
        low, high = intervals(score_samples(samples, _answers(samples, share, seed=trial + 10)))["S1"]
        covered += low <= 100 * share <= high
    assert covered >= 100 * (INTERVAL[1] - INTERVAL[0]) - 8


def test_questions_of_one_image_that_fail_together_widen_the_interval() -> None:
    samples = [s for s in _samples(400) if s.category == "left_right"]
    alone = score_samples(samples, rows := _answers(samples))
    for index, sample in enumerate(samples):  # ten questions an image, all right or all wrong
        sample.image_key = str(index // 10)
    right = {
        row["id"]: rows[10 * (i // 10)]["normalized_answer"] == samples[10 * (i // 10)].normalized_answer for i, row in enumerate(rows)
    }
    together = [
        {**row, "normalized_answer": s.normalized_answer if right[row["id"]] else "up"} for s, row in zip(samples, rows, strict=True)
    ]
    width = np.diff(intervals(score_samples(samples, together))["S1"])[0]
    assert width > 2 * np.diff(intervals(alone)["S1"])[0]


def test_chance_is_the_best_constant() -> None:
    scored = score_samples(samples := _samples(200), _answers(samples))
    found = chance_level(scored)["accuracy"]
    counts = [one.score.truth for one in scored if one.sample.category == "count"]
    metres = np.array([one.score.truth for one in scored if one.sample.category == "distance"])
    low, high = OFFICIAL_TOLERANCE
    tried = [((low * metres <= guess) & (guess <= high * metres)).mean() for guess in np.arange(0, 15, 0.001)]
    assert found["left_right"] == 50 and found["mcq"] == 25
    assert found["count"] == 100 * max(counts.count(n) for n in set(counts)) / len(counts)
    assert found["distance"] == pytest.approx(100 * max(tried), abs=0.51)  # the grid may miss a best guess by one answer


def test_calibration_separates_honest_from_overconfident_answers() -> None:
    samples = _samples(500)
    rng = random.Random(3)
    honest = []
    for sample, row in zip(samples, _answers(samples), strict=True):
        sure = rng.random()
        honest.append({**row, "confidence": sure, "normalized_answer": sample.normalized_answer if rng.random() < sure else None})
    found = calibration(score_samples(samples, honest))
    boasting = calibration(score_samples(samples, [{**row, "confidence": 1.0} for row in honest]))
    assert found is not None and boasting is not None
    assert found["ece"] < 0.05 < 0.4 < boasting["ece"]
    assert found["auroc"] > 0.75 and boasting["auroc"] == pytest.approx(0.5)
    assert found["coverage"][0]["S1"] > found["coverage"][-1]["S1"] == pytest.approx(summarise(samples, honest)["S1"])
    assert calibration(score_samples(samples, [{**row, "confidence": None} for row in honest])) is None


def test_the_worst_are_wrong_and_ordered() -> None:
    samples = _samples()
    found = worst_answers(score_samples(samples, _answers(samples)))
    assert len(found) == 20 and not any(one.score.is_correct for one in found)
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)  # all as wrong as can be


@pytest.mark.parametrize("value", [None, "", "left " * 1000, float("nan"), [], {}, 1e400, "\x00"])
def test_garbage_is_a_wrong_answer_that_is_counted(value: Any) -> None:
    samples = _samples(3)
    result = summarise(samples, [{"id": s.id, "normalized_answer": value, "answer": value, "confidence": None} for s in samples])
    assert (result["num_correct"], result["problem_counts"]) == (0, {"unparsable": len(samples)})
