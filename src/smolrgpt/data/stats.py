"""Statistics of a split: categories, answers, regions, mask areas and wordings. Opens no image.

Splits side by side show a shift, such as that of the warehouse: its multiple-choice questions differ between train and val.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import OFFICIAL, task_named
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.templates import question_template

#: Bins of distances (metres; the last one is open) and of mask areas (percent of the image).
DISTANCE_EDGES_M = tuple(range(16))
AREA_EDGES_PERCENT = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
QUANTILES = (5, 25, 50, 75, 95)
#: Templates that the statistics list, and those of them that the text shows.
NUM_TEMPLATES, NUM_SHOWN_TEMPLATES = 20, 8
#: Categories, answers or numbers of regions that the text shows.
_NUM_SHOWN_COUNTS = 16
#: Categories with few different answers, which are counted one by one.
_COUNTED = tuple(task.name for task in OFFICIAL if not task.is_length)


@dataclass
class _Wording:
    """The questions of one template: how many, by category, and the first as an example."""

    example: str
    count: int = 0
    categories: Counter[str] = field(default_factory=Counter)


def statistics(samples: Iterable[Sample]) -> dict[str, Any]:
    """Return the statistics of a split as JSON values, from one pass over its samples.

    questions, images, with_depth, with_answer; categories {name: questions}; answers {category: {answer: questions}};
    distance {number, zero, mean_m, sd_m, max_m, edges_m (B,), counts (B,)} (the last bin is open) or None; regions_per_question
    {number: questions}; mask_area, in percent of the image, {number, empty, corrupt, quantiles_percent {q: value}, edges_percent (B + 1,),
    counts (B,)}; templates {distinct, top [{template, questions, share, category, example}]}. A mask counts once per
    question about it.
    """
    counts: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    regions: Counter[int] = Counter()
    answers: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
    distances, areas = array("f"), array("f")
    images: set[int] = set()
    wordings: dict[str, _Wording] = {}
    for sample in samples:
        counts["questions"] += 1
        counts["with_depth"] += sample.depth is not None
        counts["with_answer"] += sample.answer is not None
        images.add(hash(sample.image_key))
        categories[sample.category or "none"] += 1
        regions[len(sample.regions)] += 1
        if sample.category in answers and sample.normalized_answer is not None:
            answers[sample.category][str(sample.normalized_answer)] += 1
        if task_named(sample.category) is DISTANCE:
            distances.extend(_metres(sample.normalized_answer))
        for region in sample.regions:
            try:
                areas.append(100 * region.area / (region.size[0] * region.size[1]))
            except DataError:
                counts["corrupt"] += 1
        wording = wordings.setdefault(question_template(sample.question), _Wording(sample.question))
        wording.count += 1
        wording.categories[sample.category or "none"] += 1
    return {
        "questions": counts["questions"],
        "images": len(images),
        "with_depth": counts["with_depth"],
        "with_answer": counts["with_answer"],
        "categories": dict(categories.most_common()),
        "answers": {name: dict(sorted(found.items(), key=lambda item: _order(item[0]))) for name, found in answers.items() if found},
        "distance": _distance_summary(np.asarray(distances)) if distances else None,
        "regions_per_question": {str(number): regions[number] for number in sorted(regions)},
        "mask_area": _area_summary(np.asarray(areas), counts["corrupt"]),
        "templates": _template_summary(wordings, counts["questions"]),
    }


def _order(text: str) -> tuple[float, str]:
    return (float(text), text) if text.isdigit() else (math.inf, text)


def _metres(value: Any) -> list[float]:
    """Return the distance of a short answer as a list; empty when it is not a number (``data.validate`` counts those)."""
    try:
        metres = float(value)
    except (TypeError, ValueError):
        return []
    return [metres] if math.isfinite(metres) else []


def _distance_summary(metres: np.ndarray) -> dict[str, Any]:
    counts = np.bincount(np.clip(np.digitize(metres, DISTANCE_EDGES_M) - 1, 0, None), minlength=len(DISTANCE_EDGES_M))
    return {
        "number": len(metres),
        "zero": int((metres == 0).sum()),
        "mean_m": round(float(metres.mean(dtype=np.float64)), 3),
        "sd_m": round(float(metres.std(dtype=np.float64)), 3),
        "max_m": round(float(metres.max()), 3),
        "edges_m": list(DISTANCE_EDGES_M),
        "counts": counts.tolist(),
    }


def _area_summary(percent: np.ndarray, num_corrupt: int) -> dict[str, Any]:
    inside = percent[percent > 0]
    quantiles = np.percentile(inside, QUANTILES) if inside.size else []
    counts, _ = np.histogram(np.clip(inside, AREA_EDGES_PERCENT[0], AREA_EDGES_PERCENT[-1]), AREA_EDGES_PERCENT)
    return {
        "number": len(percent),
        "empty": int((percent == 0).sum()),
        "corrupt": num_corrupt,
        "quantiles_percent": {str(q): round(float(value), 4) for q, value in zip(QUANTILES, quantiles, strict=False)},
        "edges_percent": list(AREA_EDGES_PERCENT),
        "counts": counts.tolist(),
    }


def _template_summary(wordings: Mapping[str, _Wording], num_questions: int) -> dict[str, Any]:
    most = sorted(wordings.items(), key=lambda item: (-item[1].count, item[0]))[:NUM_TEMPLATES]
    top = [
        {
            "template": text,
            "questions": wording.count,
            "share": round(wording.count / num_questions, 4),
            "category": wording.categories.most_common(1)[0][0],
            "example": wording.example,
        }
        for text, wording in most
    ]
    return {"distinct": len(wordings), "top": top}


def format_statistics(splits: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return ``{split: statistics(...)}`` as text."""
    return "\n\n".join(_format_split(f"{name} {split}", found) for split, found in splits.items())


def _format_split(name: str, found: Mapping[str, Any]) -> str:
    total = found["questions"]
    depth = "all" if found["with_depth"] == total else f"{found['with_depth']:,}"
    lines = [f"{name}: {total:,} questions, {found['images']:,} images; {depth} with depth, {found['with_answer']:,} with an answer"]
    lines.append("  categories      " + _shares(found["categories"]))
    lines.append("  regions         " + _shares(found["regions_per_question"]))
    lines += [f"  {category:<15} {_shares(answers)}" for category, answers in found["answers"].items()]
    if distance := found["distance"]:
        lines.append(
            f"  {'distance':<15} mean {distance['mean_m']:.2f} m, sd {distance['sd_m']:.2f}, max {distance['max_m']:.2f}; "
            f"{distance['zero']:,} of {distance['number']:,} are 0"
        )
    masks = found["mask_area"]
    if masks["number"]:
        quantiles = ", ".join(f"{value:.3g} ({q} %)" for q, value in masks["quantiles_percent"].items())
        lines.append(
            f"  {'mask area':<15} % of the image, by quantile: {quantiles}; {masks['number']:,} masks, "
            f"{masks['empty']:,} empty, {masks['corrupt']:,} corrupt"
        )
    wordings = found["templates"]
    lines.append(f"  {'wordings':<15} {wordings['distinct']:,} different; the most frequent:")
    for row in wordings["top"][:NUM_SHOWN_TEMPLATES]:
        lines.append(f"    {row['questions']:>9,}  {100 * row['share']:4.1f} %  {row['category']:<10}  {_clip(row['template'], 110)}")
    return "\n".join(lines)


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    shown = [f"{name}: {number:,} ({100 * number / total:.0f} %)" for name, number in list(counts.items())[:_NUM_SHOWN_COUNTS]]
    return ", ".join(shown) + (f", and {len(counts) - _NUM_SHOWN_COUNTS} more" if len(counts) > _NUM_SHOWN_COUNTS else "")


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
