"""The benchmark of the paper's stages takes real steps and compares them with the plan."""

from __future__ import annotations

import pytest

from benchmarks import paper_step


@pytest.mark.slow
def test_a_stage_is_measured_next_to_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = [paper_step.step(name, small=True, images=2, seed=0) for name in list(paper_step.STAGES)[:2]]
    assert all(len(row["losses"]) == 2 and row["losses"][0] != row["losses"][1] for row in rows)
    assert all(0 < row["trainable"] <= row["parameters"] and row["planned_bytes"]["total"] > 0 for row in rows)
    assert all(name in paper_step.render(rows) for name in list(paper_step.STAGES)[:2])
