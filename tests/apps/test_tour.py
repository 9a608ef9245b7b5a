"""The demo: what it shows is what was asked, and a seed repeats it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolrgpt.apps import tour
from smolrgpt.evaluation.score import CATEGORIES
from smolrgpt.schema import Sample


def test_numbers_in_the_table_are_those_of_the_picture() -> None:
    samples = tour.choose_scene(3)
    table = list(dict.fromkeys(region for sample in samples for region in sample.regions))
    for sample in samples:
        question, _ = tour.with_table_indices(sample, table)
        for region in sample.regions:
            assert f"<region {table.index(region)}>" in question
    chosen = Sample("a", Path("x"), "Which, <mask> or <mask>?", [table[4], table[2]], normalized_answer="1", category="mcq")
    assert tour.with_table_indices(chosen, table) == ("Which, <region 4> or <region 2>?", "2")


def test_a_seed_repeats_the_scene_and_another_does_not() -> None:
    first, again, other = (tour.choose_scene(seed, 8) for seed in (3, 3, 4))
    assert [s.question for s in first] == [s.question for s in again] and first[0].regions == again[0].regions
    assert first[0].regions != other[0].regions
    assert {sample.category for sample in first} == set(CATEGORIES)


def test_scored_questions_are_about_other_scenes() -> None:
    shown, scored = tour.choose_scene(3, 8), tour.fresh_samples(3, 20)
    assert len(scored) == 20 and len({s.id for s in scored}) == 20
    assert shown[0].image_key not in {s.image_key for s in scored} and len({s.image_key for s in scored}) >= 3


@pytest.mark.slow
def test_the_tour_runs(tiny_checkpoint: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "NUM_SCORED", 8)
    tour.run(5, tmp_path / "out" / "demo.png", str(tiny_checkpoint))
    shown = capsys.readouterr().out
    assert "SEED=5" in shown and "S1" in shown and "on 8 questions" in shown and str(tmp_path / "out" / "demo.png") in shown
    assert (tmp_path / "out" / "demo.png").stat().st_size > 10_000
    assert sum(line.endswith(("correct", "WRONG")) for line in shown.splitlines()) == tour.NUM_SHOWN


def test_a_seed_that_is_no_number_is_bad_usage(command) -> None:
    status, out, err = command("tour", "--seed", "seven")
    assert (status, out) == (2, "") and "--seed" in err and "valid integer" in err
