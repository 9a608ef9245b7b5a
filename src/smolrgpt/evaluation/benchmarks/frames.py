"""The frames benchmark: real RGB-D frames, in several wordings and depth settings, beside rules on what was measured. Needs no torch.

A length is right within 10 % of the truth, and counted within 25 % as well; everything else is right or wrong. An answer of None is a
refusal: it counts as wrong, in a column of its own. The headline is the first setting in the first wording; all others stand below it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smolrgpt.data.sources import read_source
from smolrgpt.data.sources.warehouse import DepthChoice
from smolrgpt.evaluation.measured import MeasuringPredictor
from smolrgpt.evaluation.predict import Row, predict
from smolrgpt.evaluation.report.document import Report
from smolrgpt.evaluation.report.frames import frames_report
from smolrgpt.evaluation.score import CATEGORIES, AnswerScore, Problems, s1, true_answer
from smolrgpt.evaluation.summary import ScoredSample, calibration
from smolrgpt.schema import DataError, Sample
from smolrgpt.tasks import OTHER, TASKS, task_named

#: A length is right, or nearly right, when it differs from the truth by at most this share of it.
TOLERANCE, WIDE_TOLERANCE = 0.10, 0.25
#: Lengths asked about consecutive frames agree when the largest exceeds the smallest by at most this share.
MAX_SPREAD = 0.03
#: A length with less confidence than this is not claimed to be known.
MIN_CONFIDENCE = 0.5
#: Upper ends of the groups by true length, in metres.
LENGTH_GROUPS_M = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)

_ROUNDING = 1e-9


@dataclass(frozen=True)
class AnsweredFrame:
    """A question about a frame with the score of an answer and of the rules' answer to it.

    Attributes:
        scored: The sample, its answer and the score.
        rule: The score of the rules' answer.
        category: The kind of question that the answer is of.
    """

    scored: ScoredSample
    rule: AnswerScore
    category: str | None

    @property
    def sample(self) -> Sample:
        """The question."""
        return self.scored.sample

    @property
    def variant(self) -> str:
        """Its depth setting and wording."""
        return f"{self.sample.metadata['setting']}/{self.sample.metadata['wording']}"

    @property
    def is_length(self) -> bool:
        """Whether a length is asked for."""
        return self.scored.task.is_length


def score_value(category: str, truth: Any, value: Any, tolerance: float = TOLERANCE) -> AnswerScore:
    """Score a normalised answer; None and what is no answer of the category are wrong.

    Raises DataError for a category without short answers, and for a truth that cannot be parsed.
    """
    task = task_named(category)
    expected, answer = task.parse_or_none(truth), task.parse_or_none(value)
    if expected is None:
        raise DataError(
            f"the true answer {truth!r} is none of the category {category!r}; expected categories such as {_known_categories()}"
        )
    if answer is None:
        problem = "refused" if value is None else "unparsable"
        return AnswerScore(False, expected, None, f"{category}: {problem}: {str(value)[:80]!r}", problem)
    near = abs(answer - expected) <= tolerance * expected + _ROUNDING if task.is_length else task.is_correct(expected, answer)
    explanation = "" if near else f"{category}: {task.format_answer(answer)}, the truth is {task.format_answer(expected)}"
    return AnswerScore(bool(near), expected, answer, explanation)


def _known_categories() -> str:
    return ", ".join(task.name for task in TASKS.values() if task is not OTHER)


class FramesBenchmark:
    """Questions about real frames, of the folders that ``data.sources.frames`` reads.

    Args:
        wordings: The wordings to ask in.
        settings: The depth settings to ask in.
    """

    name = "frames"
    description = "real RGB-D frames, beside rules on what was measured"

    def __init__(self, wordings: Sequence[str] = ("natural",), settings: Sequence[str] = ("metric_camera",)):
        self.wordings, self.settings = tuple(dict.fromkeys(wordings)), tuple(dict.fromkeys(settings))

    def load(self, root: Path, split: str | None, depth: DepthChoice) -> list[Sample]:
        """Return the questions of ``<split>.jsonl``, by default "questions", in every setting and wording."""
        if depth != "auto":
            raise ValueError(f"--depth {depth}: the frames benchmark takes --setting instead: metric_camera, metric, relative or none")
        pairs = itertools.product(self.settings, self.wordings)
        parts = (read_source("frames", root, split or "questions", setting=setting, wording=wording) for setting, wording in pairs)
        return list(itertools.chain.from_iterable(parts))

    def can_score(self, sample: Sample) -> bool:
        """Return whether the sample is a question about a frame and has a normalised answer."""
        return sample.normalized_answer is not None and {"setting", "wording"} <= set(sample.metadata)

    def score(self, samples: Sequence[Sample], predictions: Sequence[Row]) -> dict[str, Any]:
        """Return the figures of the headline, groups of it, and all variants.

        Returns:
            The result of ``figures`` of the headline; ``variants`` {setting/wording: figures}; ``groups`` {title: {group: figures}};
            ``consistency`` (see ``consistency``), ``calibration`` as of ``summary.calibration``, ``problem_counts`` and ``problems``.
        """
        problems = Problems()
        rows = answered_frames([sample for sample in samples if self.can_score(sample)], predictions, problems)
        variants = _grouped(rows, lambda row: row.variant, sort=False)
        head = next(iter(variants.values()))
        return {
            "variant": head[0].variant,
            **figures(head),
            "variants": {name: figures(members) for name, members in variants.items()},
            "groups": {title: {name: figures(found) for name, found in _grouped(head, group).items()} for title, group in GROUPS.items()},
            "consistency": consistency(rows),
            "calibration": calibration([row.scored for row in head]),
            **problems.as_dict(),
        }

    def report(self, result: Mapping[str, Any], samples: Sequence[Sample], predictions: Sequence[Row]) -> Report:
        """Return the report with plots and the images of the worst answers of the headline."""
        asked = [sample for sample in samples if self.can_score(sample)]
        scored = _scored_samples(asked, predictions, Problems())
        head = [row for row in scored if f"{row.sample.metadata['setting']}/{row.sample.metadata['wording']}" == result["variant"]]
        return frames_report(result, head, (1 - TOLERANCE, 1 + TOLERANCE))


# -------------------------------------------------------------------------------------------------------------------------- scoring
def answered_frames(samples: Sequence[Sample], predictions: Sequence[Row], problems: Problems) -> list[AnsweredFrame]:
    """Return every question with its answer and the rules' answer, and note problems of the answers."""
    categories = {str(row["id"]): row.get("category") for row in predictions}
    rules = predict(MeasuringPredictor(), samples, progress=False)
    return [
        AnsweredFrame(scored, score_value(str(scored.sample.category), scored.score.truth, rule["normalized_answer"]), categories.get(name))
        for scored, rule in zip(_scored_samples(samples, predictions, problems), rules, strict=True)
        for name in [scored.sample.id]
    ]


def _scored_samples(samples: Sequence[Sample], predictions: Sequence[Row], problems: Problems) -> list[ScoredSample]:
    rows = {str(row["id"]): row for row in predictions}
    found = []
    for sample in samples:
        row = rows.get(sample.id)
        score = score_value(str(sample.category), true_answer(sample), None if row is None else row.get("normalized_answer"))
        reason = "not predicted: counted as wrong" if row is None else row.get("error") or score.explanation
        if score.problem:
            problems.add("missing" if row is None else "error" if row.get("error") else score.problem, sample.id, reason)
        found.append(ScoredSample(sample, (row or {}).get("answer") or "", score, (row or {}).get("confidence")))
    return found


def figures(rows: Sequence[AnsweredFrame]) -> dict[str, Any]:
    """Return the figures of a group of questions.

    Returns:
        ``S1``: the mean of the official categories that occur; ``accuracy`` and, of lengths, ``within_25``, both in percent, and
        ``ratio``, the median of answer / truth, by category; ``rule``: {S1, accuracy, within_25} of the rules; ``by_category``
        {num_questions, num_correct, num_refused, num_misread (read as another kind), num_withheld (lengths that are refused or have less
        confidence than ``MIN_CONFIDENCE``)}; ``num_questions``, ``num_correct``, ``num_refused``, ``num_misread``; ``ece`` and ``auroc``
        of the confidence, None where unknown.
    """
    by_category = _grouped(rows, lambda row: row.sample.category or "", TASKS)
    ours = {name: [row.scored.score for row in members] for name, members in by_category.items()}
    rules = {name: [row.rule for row in members] for name, members in by_category.items()}
    lengths = [name for name in by_category if task_named(name).is_length]
    confidence = calibration([row.scored for row in rows])
    return {
        **_shares(ours, lengths),
        "ratio": {name: _median_ratio(ours[name]) for name in lengths},
        "rule": _shares(rules, lengths),
        "num_questions": len(rows),
        "num_correct": sum(row.scored.score.is_correct for row in rows),
        "num_refused": sum(row.scored.score.answer is None for row in rows),
        "num_misread": sum(_is_misread(row) for row in rows),
        "by_category": {name: _counts(members) for name, members in by_category.items()},
        "ece": None if confidence is None else confidence["ece"],
        "auroc": None if confidence is None else confidence["auroc"],
    }


def _shares(scores: Mapping[str, Sequence[AnswerScore]], lengths: Iterable[str]) -> dict[str, Any]:
    accuracy = {name: _percent(score.is_correct for score in found) for name, found in scores.items()}
    wide = {
        name: _percent(score_value(name, score.truth, score.answer, WIDE_TOLERANCE).is_correct for score in scores[name])
        for name in lengths
    }
    official = {name: accuracy[name] for name in CATEGORIES if name in accuracy}
    return {"S1": s1(official), "accuracy": accuracy, "within_25": wide}


def _counts(rows: Sequence[AnsweredFrame]) -> dict[str, int]:
    return {
        "num_questions": len(rows),
        "num_correct": sum(row.scored.score.is_correct for row in rows),
        "num_refused": sum(row.scored.score.answer is None for row in rows),
        "num_misread": sum(_is_misread(row) for row in rows),
        "num_withheld": sum(row.is_length and _is_withheld(row.scored) for row in rows),
    }


def _is_withheld(scored: ScoredSample) -> bool:
    return scored.score.answer is None or (scored.confidence is not None and scored.confidence < MIN_CONFIDENCE)


def _is_misread(row: AnsweredFrame) -> bool:
    return row.category is not None and row.category != row.sample.category


def _percent(values: Iterable[bool]) -> float:
    return 100.0 * float(np.mean(list(values)))


def _median_ratio(scores: Sequence[AnswerScore]) -> float | None:
    ratios = [score.answer / score.truth for score in scores if score.answer is not None and score.truth > 0]
    return float(np.median(ratios)) if ratios else None


# --------------------------------------------------------------------------------------------------------------------------- groups
def _grouped(
    rows: Iterable[AnsweredFrame], name: Callable[[AnsweredFrame], str | None], order: Iterable[str] = (), sort: bool = True
) -> dict[str, list[AnsweredFrame]]:
    """Return the rows by group, in ``order`` and then by name (``sort``) or first occurrence; rows without a group are left out."""
    members: dict[str, list[AnsweredFrame]] = defaultdict(list)
    for row in rows:
        if (group := name(row)) is not None:
            members[group].append(row)
    ranks = {group: rank for rank, group in enumerate(order)}
    names = sorted(members, key=lambda group: (ranks.get(group, len(ranks)), *(_natural(group) if sort else ())))
    return {group: members[group] for group in names}


def _natural(group: str) -> tuple[Any, ...]:
    """Sort 9 before 10."""
    return (len(group), group) if group.isdecimal() else (0, group)


def _length_group(row: AnsweredFrame) -> str | None:
    if not row.is_length:
        return None
    position = int(np.searchsorted(LENGTH_GROUPS_M, row.scored.score.truth, side="right"))
    low, high = ((0.0, *LENGTH_GROUPS_M)[position], (*LENGTH_GROUPS_M, math.inf)[position])
    return f"{row.sample.category}, {low:g} m or more" if high == math.inf else f"{row.sample.category}, {low:g} to {high:g} m"


#: Title of a table -> the group of a question in it; None where it has none.
GROUPS: dict[str, Callable[[AnsweredFrame], str | None]] = {
    "By what is asked": lambda row: row.sample.metadata.get("kind"),
    "By scale": lambda row: row.sample.metadata.get("scale"),
    "By source": lambda row: row.sample.metadata.get("source"),
    "By true length": _length_group,
    "By number of regions, of all that is no length": lambda row: None if row.is_length else str(row.sample.metadata["num_regions"]),
}


def consistency(rows: Iterable[AnsweredFrame]) -> dict[str, Any] | None:
    """Return how far answers about consecutive frames of a still scene agree, None where no rows have a ``sequence``.

    Returns:
        ``num_sequences``, ``lengths``: the share in percent of sequences whose lengths differ by at most ``MAX_SPREAD``; ``choices``: the
        share of the others in which all answers are equal; None where there are none. A sequence with a refusal disagrees, unless all
        are refusals.
    """
    members: dict[tuple[str, str], list[AnsweredFrame]] = defaultdict(list)
    for row in rows:
        if (name := row.sample.metadata.get("sequence")) is not None:
            members[row.variant, str(name)].append(row)
    sequences = [found for found in members.values() if len(found) > 1]
    agreeing = Counter((found[0].is_length, _agree(found)) for found in sequences)
    if not sequences:
        return None
    share = {
        is_length: 100.0 * agreeing[is_length, True] / total if (total := agreeing[is_length, True] + agreeing[is_length, False]) else None
        for is_length in (True, False)
    }
    return {"num_sequences": len(sequences), "lengths": share[True], "choices": share[False]}


def _agree(rows: Sequence[AnsweredFrame]) -> bool:
    answers = [row.scored.score.answer for row in rows]
    if rows[0].is_length and None not in answers:
        return bool(max(answers) <= (1 + MAX_SPREAD) * min(answers) + _ROUNDING)
    return len(set(answers)) == 1
