"""``smolrgpt tour`` and ``make demo``: answers about a fresh scene next to the truth, and the score on fresh questions."""

from __future__ import annotations

import random
import re
import shutil
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from smolrgpt.data.loading import load_image, load_sample_depth
from smolrgpt.evaluation.score import CATEGORIES, score_answer
from smolrgpt.schema import Region, Sample
from smolrgpt.tasks import NormalizedAnswer, task_named
from smolrgpt.tasks.mentions import write_mentions

if TYPE_CHECKING:
    from smolrgpt.inference.predictor import Predictor

#: Training and validation sets are drawn from seeds below this one, so no scene from here on was trained on.
HELD_OUT_SEED = 10_000_000
NUM_SHOWN = 10
NUM_SCORED = 200
QUESTIONS_PER_SCENE = 8


@dataclass(frozen=True)
class Row:
    """One line of the table; region indices are those of the overlay image."""

    question: str
    answer: str
    truth: str
    is_correct: bool


def run(seed: int | None = None, out: Path = Path("out/demo.png"), model: str = "nano") -> None:
    """Print the tour on stdout and write the overlay image to ``out``. seed: of the scene; None: a random one."""
    from smolrgpt.evaluation.evaluate import EvaluationOptions, evaluate
    from smolrgpt.evaluation.report.text import format_result
    from smolrgpt.inference.loading import load_predictor

    seed = random.randrange(1_000_000) if seed is None else seed
    predictor = load_predictor(model)
    print(f"model: {model}, {predictor!r}")
    print(f"scene: a fresh synthetic warehouse, seed {seed} (make demo SEED={seed} shows it again); [k] is region k of the image\n")
    samples = choose_scene(seed)
    rows, seconds = answer_scene(predictor, samples, out)
    print(format_table(rows, shutil.get_terminal_size((120, 24)).columns))
    num_correct = sum(row.is_correct for row in rows)
    print(f"\n{num_correct} of {len(rows)} right, {seconds:.2f} s in all; the image with its numbered regions: {out}\n")
    print(f"Score on {NUM_SCORED} questions about other fresh scenes:", flush=True)
    started = time.perf_counter()
    result = evaluate(predictor, fresh_samples(seed, NUM_SCORED), options=EvaluationOptions(name=model))
    print(format_result(result))
    print(f"  in {time.perf_counter() - started:.0f} s\n\n{NEXT}")


NEXT = """What to try next:
  .venv/bin/smolrgpt ask IMAGE --depth DEPTH --region 40,60,120,140 "How tall is <region 0>?"   your own image
  .venv/bin/pip install -e '.[demo]' && .venv/bin/smolrgpt demo                                           the same on a web page
  .venv/bin/smolrgpt synth data/reserved --scenes 50 --layouts reserved                                   layouts it was not trained on
  .venv/bin/smolrgpt evaluate nano data/reserved --out runs/reserved                                      and its score there
  .venv/bin/smolrgpt train nano --quick                                                                   train your own"""


# ------------------------------------------------------------------------------------------------------------------------ scenes
def held_out_questions(seed: int, number: int, num_questions: int) -> list[Sample]:
    """Draw a scene of a known layout and ask about it, with the categories in turn as far as the scene allows."""
    from smolrgpt.data.worlds import generate_scene, random_generator, scene_samples

    path = (HELD_OUT_SEED + seed, number)
    return scene_samples(generate_scene(path), num_questions, random_generator(*path, 1), key=f"scene {seed}/{number}")


def choose_scene(seed: int, num_questions: int = NUM_SHOWN) -> list[Sample]:
    """Return questions about the first scene of this seed that has questions of every category."""
    scenes = (held_out_questions(seed, number, num_questions) for number in count())
    return next(s for s in scenes if len(s) == num_questions and {sample.category for sample in s} == set(CATEGORIES))


def fresh_samples(seed: int, num_questions: int) -> list[Sample]:
    """Return questions about other scenes of the same seed, few about each so that many scenes count."""
    samples: list[Sample] = []
    with tqdm(total=num_questions, unit="question", desc="drawing scenes", leave=False) as bar:
        for number in count(1_000):  # choose_scene ends before this number
            new = held_out_questions(seed, number, min(QUESTIONS_PER_SCENE, num_questions - len(samples)))
            samples += new
            bar.update(len(new))
            if len(samples) == num_questions:
                break
    return samples


# ----------------------------------------------------------------------------------------------------------------------- answers
def answer_scene(predictor: Predictor, samples: Sequence[Sample], out: Path) -> tuple[list[Row], float]:
    """Ask all questions about one scene at once, with one numbered list of regions, and write the overlay image.

    Returns:
        The rows of the table, and the seconds that the answers took.
    """
    from smolrgpt.viz.drawing import draw_regions

    table = list(dict.fromkeys(region for sample in samples for region in sample.regions))
    questions, truths = zip(*(with_table_indices(sample, table) for sample in samples), strict=True)
    first = samples[0]
    started = time.perf_counter()
    answers = predictor.ask_many(first.image, questions, first.depth, table, first.camera)
    seconds = time.perf_counter() - started
    rows = []
    for sample, question, truth, answer in zip(samples, questions, truths, answers, strict=True):
        is_correct = score_answer(str(sample.category), truth, answer.normalized_answer).is_correct
        rows.append(Row(re.sub(r"<region (\d+)>", r"[\1]", question), str(answer.normalized_answer), str(truth), is_correct))
    captions = [{"question": row.question, "answer": row.answer, "truth": row.truth, "right": row.is_correct} for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_regions(load_image(first), table, depth=load_sample_depth(first), answer=captions).save(out)
    return rows, seconds


def with_table_indices(sample: Sample, table: Sequence[Region]) -> tuple[str, NormalizedAnswer]:
    """Return the sample's question with ``<region k>`` and its truth, both with k the index of a region in ``table``."""
    indices = [table.index(region) for region in sample.regions]
    return write_mentions(sample.question, indices), task_named(sample.category).renumber(sample.normalized_answer, indices)


def format_table(rows: Sequence[Row], width: int) -> str:
    """Format question (wrapped), answer, truth and verdict for a terminal of ``width`` columns."""
    table = [("question", "answer", "truth", " " * len("correct"))]
    table += [(row.question, row.answer, row.truth, "correct" if row.is_correct else "WRONG") for row in rows]
    _, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
    question_width = max(30, min(width, 140) - sum(widths) - 6 - 4)
    lines = []
    for number, (question, *cells) in enumerate(table):
        first, *rest = textwrap.wrap(question, question_width)
        start = f"{number:2}  " if number else "    "
        lines.append("  ".join([start + first.ljust(question_width), *map(str.ljust, cells, widths)]).rstrip())
        lines += ["    " + line for line in rest]
    return "\n".join(lines)
