"""The templates benchmark: the accuracy on each official question template, on sets of 'smolrgpt synth'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smolrgpt.data.sources.warehouse import DepthChoice
from smolrgpt.evaluation.benchmarks.plain import PlainBenchmark
from smolrgpt.evaluation.predict import Row
from smolrgpt.evaluation.report.document import Report, Section, Table
from smolrgpt.evaluation.report.sections import SCORE_HEADER, result_report, score_cells, wording_table
from smolrgpt.evaluation.samples import read_companion
from smolrgpt.evaluation.score import score
from smolrgpt.evaluation.summary import by_template, intervals, score_samples, truth_row
from smolrgpt.schema import Sample


class TemplatesBenchmark(PlainBenchmark):
    """The questions of ``<split>_templates.json``: instances of every official template, each of which a row names."""

    name = "templates"
    description = "the accuracy on each official question template, on a set of 'smolrgpt synth'"

    def load(self, root: Path, split: str | None, depth: DepthChoice) -> list[Sample]:
        """Return the questions with a template about the images of a split, by default ``val``."""
        return read_companion(root, "templates", split, depth)

    def can_score(self, sample: Sample) -> bool:
        """Return whether the sample names its template, is of an official category and has a normalised answer."""
        return bool(sample.official_template) and super().can_score(sample)

    def score(self, samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
        """Return the result of ``score`` with ``interval`` and ``by_template``.

        ``by_template`` holds {template, category, num_questions, accuracy in percent} of each template, the lowest accuracy first.
        """
        asked = [sample for sample in samples if self.can_score(sample)]
        scored = score_samples(asked, predictions)
        rows = by_template(scored, lambda sample: str(sample.official_template))
        known = {sample.id for sample in asked}
        return {
            **score(map(truth_row, asked), [row for row in predictions if str(row["id"]) in known]),
            "interval": intervals(scored),
            "by_template": sorted(rows, key=lambda row: (row["accuracy"], -row["num_questions"], row["template"])),
        }

    def report(self, result: Mapping[str, Any], samples: Sequence[Sample], predictions: Sequence[Row]) -> Report:
        """Return the report: S1, and a row per template, the lowest accuracy first."""
        wordings = result["by_template"]
        perfect = sum(row["accuracy"] == 100 for row in wordings)
        summary = f"{len(wordings)} templates, {perfect} of them without a wrong answer."
        scores = Table(SCORE_HEADER, [["this run", *score_cells(result["S1"], result["accuracy"], result["interval"])]])
        sections = [
            Section("Accuracy", [scores]),
            Section("Templates, the lowest accuracy first", [summary, wording_table(wordings)]),
        ]
        return result_report(result, "official templates", sections)
