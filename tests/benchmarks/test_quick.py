"""Laws of the benchmark with a history: what counts as a regression, and what a run is compared with."""

from __future__ import annotations

import json

import pytest

from benchmarks import quick
from benchmarks.quick import Run, find_regressions, measure_with_retries, median_ratios, read_history


def test_only_a_halving_is_a_regression() -> None:
    assert find_regressions({"engine": 5.1}, {"engine": 10.0}) == []
    assert find_regressions({"engine": 4.9, "other": 1.0}, {"engine": 10.0}) == ["engine: 4.9x the released program, it was 10.0x"]
    with pytest.raises(ValueError, match="no backend has a ratio in both"):
        find_regressions({"engine": 4.9}, {"other": 1.0})


def test_a_regression_counts_when_every_retry_shows_it() -> None:
    runs = iter([4.0, 4.0, 6.0, 4.0, 4.0, 4.0])
    assert measure_with_retries(lambda: {"engine": next(runs)}, {"engine": 10.0}) == ({"engine": 6.0}, [])
    assert measure_with_retries(lambda: {"engine": next(runs)}, {"engine": 10.0})[1]
    assert not list(runs)
    assert measure_with_retries(lambda: {"engine": 1.0}, None) == ({"engine": 1.0}, [])


def test_only_runs_on_the_same_machine_are_compared_with() -> None:
    history = [Run("", "", machine, {"engine": ratio}) for machine, ratio in (("a", 9.0), ("b", 1.0), ("a", 11.0), ("a", 30.0))]
    assert median_ratios(history, "a") == {"engine": 11.0}
    assert median_ratios(history, "c") is None


def test_every_run_is_appended_and_a_regression_is_exit_code_1(monkeypatch, capsys, tmp_path) -> None:
    history = tmp_path / "new" / "history.jsonl"
    ratios = iter([10.0, 12.0, *[4.0] * quick.NUM_RETRIES])
    monkeypatch.setattr(quick, "measure_ratios", lambda setting: {"engine": next(ratios)})
    quick.main(["--out", str(history)])
    quick.main(["--out", str(history), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ratios"] == {"engine": 12.0}
    with pytest.raises(SystemExit) as stop:
        quick.main(["--out", str(history)])
    shown = capsys.readouterr()
    assert stop.value.code == 1 and "engine: 4.0x the released program, it was 11.0x" in shown.err
    assert all(ratio in shown.out for ratio in ("10.0x", "12.0x", "4.0x"))
    assert [run.ratios["engine"] for run in read_history(history)] == [10.0, 12.0, 4.0]
