"""Results as a few lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def format_result(result: Mapping[str, Any]) -> str:
    """Format a result of ``score`` or ``spatial_bench.score`` as a few lines of text."""
    width = max(map(len, result["accuracy"]))
    rows = [
        f"  {name:<{width}} {accuracy:6.2f} %   {counts['num_correct']} of {counts['num_questions']}"
        for name, accuracy in result["accuracy"].items()
        for counts in [result["by_category"][name]]
    ]
    means = [f"{name} {result[name]:.2f}" for name in ("S1", "qualitative", "quantitative") if result.get(name) is not None]
    extractors = [
        f"  read by {name}: S1 {found['S1']:.2f}, {found['num_unreadable']} unreadable"
        for name, found in result.get("extractors", {}).items()
    ]
    if "judge" in result:
        judged = [f"{name} {result['judge'][name]:.2f}" for name in ("qualitative", "quantitative") if result["judge"][name] is not None]
        without = f"{result['judge']['problem_counts'].get('unparsable', 0)} without a verdict"
        extractors.append(f"  judged by {result['judge']['model']}: {', '.join([*judged, without])}")
    return "\n".join([f"{', '.join(means)} on {result['num_questions']} questions", *rows, *extractors])
