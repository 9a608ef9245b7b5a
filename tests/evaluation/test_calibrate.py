"""Laws of the least confidence of a kind."""

from __future__ import annotations

import numpy as np
import pytest

from smolrgpt.evaluation.calibrate import choose_min_confidence


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_at_most_the_share_of_right_answers_is_withheld_and_no_higher_confidence_would_do(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    right, wrong = rng.beta(5, 1, 400).tolist(), rng.beta(2, 3, 100).tolist()
    least = choose_min_confidence([*(("count", c, True) for c in right), *(("count", c, False) for c in wrong)], share)["count"]
    assert sum(c < least for c in right) <= share * len(right)
    assert sum(c <= least + 1e-3 for c in right) > share * len(right)
    assert sum(c < least for c in wrong) > 0


def test_kinds_with_few_right_answers_and_without_wrong_ones_are_left_out() -> None:
    few = [("few", 0.9, True)] * 20 + [("few", 0.1, False)] * 20
    assert choose_min_confidence([*few, *[("sure", 0.9, True)] * 200]) == {}
