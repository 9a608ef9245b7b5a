"""The registry of benchmarks, and the benchmark of the official question templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from test_report import Parrot

from smolrgpt.cli.options import BenchmarkName
from smolrgpt.data.worlds import write_dataset
from smolrgpt.evaluation.benchmarks import BENCHMARKS
from smolrgpt.evaluation.benchmarks.templates import TemplatesBenchmark
from smolrgpt.evaluation.evaluate import EvaluationOptions, evaluate
from smolrgpt.evaluation.report.markdown import to_markdown
from smolrgpt.evaluation.rules import RulesPredictor
from smolrgpt.schema import Sample
from smolrgpt.tasks.official import official_forms

TEMPLATES = TemplatesBenchmark()


def test_the_command_line_offers_every_benchmark() -> None:
    assert set(get_args(BenchmarkName)) == set(BENCHMARKS)


def _sample(row_id: str, template: str | None, truth: int = 2) -> Sample:
    return Sample(row_id, Path("a.png"), "?", normalized_answer=truth, category="count", official_template=template)


def test_templates_are_counted_one_by_one_and_the_worst_come_first() -> None:
    samples = [_sample("0", "A?"), _sample("1", "A?"), _sample("2", "B|?"), _sample("3", "C?"), _sample("4", None)]
    rows: list[dict[str, Any]] = [{"id": sample.id, "normalized_answer": 2} for sample in samples]
    rows[1]["normalized_answer"], rows[2]["normalized_answer"] = 9, None
    result = TEMPLATES.score(samples, rows)
    assert [(row["template"], row["num_questions"], row["accuracy"]) for row in result["by_template"]] == [
        ("B|?", 1, 0.0),
        ("A?", 2, 50.0),
        ("C?", 1, 100.0),
    ]
    assert (result["num_questions"], result["num_correct"], result["problem_counts"]) == (4, 2, {"unparsable": 1})
    text = to_markdown(TEMPLATES.report(result, samples, rows))
    assert text.index("B\\|?") < text.index("A?") < text.index("C?")
    assert "3 templates, 1 of them without a wrong answer" in text


@pytest.fixture(scope="module")
def synthetic_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    write_dataset(root, "val", 12, 9, layouts="known", workers=1, progress=False)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "sizes", "templates"])
def test_a_perfect_answerer_reaches_every_mark_on_a_written_set(synthetic_set: Path, tmp_path: Path, name: str) -> None:
    result = evaluate(Parrot(), synthetic_set, tmp_path, EvaluationOptions(benchmark=name, progress=False))
    assert result["num_questions"] > 5 and set(result["accuracy"].values()) == {100.0}
    assert "100.00" in (tmp_path / "report.md").read_text()


def test_the_oracle_knows_every_template_of_a_written_set(synthetic_set: Path) -> None:
    options = EvaluationOptions(benchmark="templates", progress=False)
    result = evaluate(RulesPredictor("rules-truth"), synthetic_set, options=options)
    asked = {row["template"] for row in result["by_template"]}
    assert len(asked) > 200 and asked <= {form.template for form in official_forms()}
    assert [row["template"] for row in result["by_template"] if row["accuracy"] < 100] == []
