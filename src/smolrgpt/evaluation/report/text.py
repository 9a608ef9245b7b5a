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
    variants = [_format_variant(name, found) for name, found in result.get("variants", {}).items()]
    return "\n".join([f"{', '.join(means)} on {result['num_questions']} questions", *rows, *extractors, *variants])


def _format_variant(name: str, found: Mapping[str, Any]) -> str:
    """Return the figures of one setting and wording of the frames benchmark: the model's, then those of the rules in brackets."""
    cells = []
    for category in found["accuracy"]:
        parts = [[part["accuracy"][category], part["within_25"].get(category)] for part in (found, found["rule"])]
        ours, rule = ("/".join(f"{value:.1f}" for value in part if value is not None) for part in parts)
        cells.append(f"{category} {ours} [{rule}]")
    confidence = [f"{key} {found[key]:.3f}" for key in ("ece", "auroc") if found[key] is not None]
    counts = [f"{found[key]} {key.removeprefix('num_')}" for key in ("num_refused", "num_misread") if found[key]]
    return f"  {name}: {', '.join([*cells, *confidence, *counts])}"
