"""The benchmark of the loader measures both programs on the same questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import loader


@pytest.mark.slow
def test_every_backend_prepares_the_same_questions(tmp_path: Path) -> None:
    result = loader.run(tmp_path / "data", num_images=2, seed=3, repeats=1, frame=(192, 108))
    assert result["images"] == 2 and result["questions"] == 2 * loader.QUESTIONS_PER_IMAGE
    for measured in result["depth"].values():
        assert measured["backends"]["released"]["times_released"] == 1
        assert all(times["cpu_ms_per_question"] > 0 for times in measured["backends"].values())
        steps = measured["profile_ms_per_image"]
        assert set(loader.STEPS) < set(steps) and min(steps[name] for name in loader.STEPS) > 0
    assert "released" in loader.render(result)
