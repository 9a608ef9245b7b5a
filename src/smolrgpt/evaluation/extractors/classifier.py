"""The extractor "classifier": two text classifiers, the question router and the answer router, of ``experiments/train_router.py``.

In the released program of the paper one router classifies the question and the other the answer. Where the two categories agree, a 14B
language model reads the value; where they differ, or the answer is empty, the program guesses "left" or 1. Here the label of the answer
includes the value, so that no language model is needed:

    left_right right    the region mentioned first is on the right of the one mentioned second
    count 3             three
    mcq 1               the answer is the second region in order of first mention
    distance            metres do not fit into classes: the rules of the Task read them
    unreadable          no answer at all (trained on scrambled ones)

Before an answer is classified, its regions are renumbered 0, 1, 2... in order of first mention: the meaning of a sentence does not depend
on the indices, so the classifier cannot learn them, and it reads an index that no training row had.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from smolrgpt.evaluation.extractors.base import Row, row_text
from smolrgpt.tasks import NormalizedAnswer, task_named
from smolrgpt.tasks.choice import MCQ
from smolrgpt.tasks.count import COUNT
from smolrgpt.tasks.distance import DISTANCE
from smolrgpt.tasks.region_text import find_regions, region_tag, replace_regions
from smolrgpt.tasks.side import LEFT_RIGHT, OPPOSITE, is_mirrored

logger = logging.getLogger(__name__)

#: The two classifiers; each is a folder with a model, its tokenizer and its labels.
HEADS = ("question", "answer")
UNREADABLE = "unreadable"
#: Longer texts are cut to their end, where the conclusion is, before they are tokenized.
MAX_CHARS = 20_000
#: The answers of the released program where its routers disagree or the answer is empty.
PUBLISHED_GUESSES: dict[str, NormalizedAnswer] = {LEFT_RIGHT.name: "left", COUNT.name: 1, MCQ.name: "1", DISTANCE.name: 1}


def renumber_by_mention(text: str) -> tuple[str, list[int]]:
    """Renumber the regions of a text in order of first mention, and their original indices in that order."""
    numbers = list(dict.fromkeys(find_regions(text)))
    return replace_regions(text, lambda index: region_tag(numbers.index(index))), numbers


def answer_text(answer: str) -> tuple[str, list[int]]:
    """Return the input of the answer router: the last ``MAX_CHARS`` characters of an answer, renumbered, and the original indices."""
    return renumber_by_mention(answer[-MAX_CHARS:].strip())


def label_to_answer(label: str, question: str, answer: str, numbers: Sequence[int]) -> NormalizedAnswer:
    """Convert a label of the answer router to a normalised answer, None where it has none; numbers: the original region indices."""
    category, _, value = label.partition(" ")
    task = task_named(category)
    if task is LEFT_RIGHT:
        return OPPOSITE[value] if is_mirrored(numbers) else value
    if task is COUNT:
        return int(value)
    if task.names_region:
        return str(numbers[int(value)]) if int(value) < len(numbers) else None
    return task.read(question, answer)


class Router:
    """A sequence classifier of the transformers library, loaded from its folder. Raises ValueError when the folder holds none."""

    def __init__(self, folder: str | Path, device: str | None = None, batch_size: int = 32):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if not (Path(folder) / "config.json").is_file():
            command = f"python -m experiments.train_router DATA --out {Path(folder).parent}"
            raise ValueError(f"{folder}: no classifier there; '{command}' trains one")
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).to(self._device).eval()
        self._batch_size = batch_size

    @torch.inference_mode()
    def classify(self, texts: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Yield (label, probability in [0, 1]) of each text, of which the model reads as much of the end as it takes."""
        for start in range(0, len(texts), self._batch_size):
            batch = self._tokenizer(list(texts[start : start + self._batch_size]), padding=True, truncation=True, return_tensors="pt")
            probabilities = self._model(**batch.to(self._device)).logits.softmax(-1)  # (B, labels)
            for probability, index in zip(*(values.tolist() for values in probabilities.max(-1)), strict=True):
                yield self._model.config.id2label[index], probability


class ClassifierExtractor:
    """The two routers as an extractor.

    Args:
        folder: The output of ``python -m experiments.train_router``.
        min_probability: A label with a lower probability counts as unreadable.
        guess: Whether to guess as the released program does (``PUBLISHED_GUESSES``) where the routers disagree or read nothing, instead of
            counting the row as unreadable. Some guesses are correct, so a score that includes them must state it.
        device: Where the classifiers run; by default on the GPU, if there is one.

    Raises:
        ValueError: A classifier is absent.
    """

    def __init__(self, folder: str | Path, min_probability: float = 0.5, guess: bool = False, device: str | None = None):
        self._routers = {head: Router(Path(folder) / head, device) for head in HEADS}
        self._min_probability, self._guess = min_probability, guess

    def __call__(self, rows: Sequence[Row]) -> list[NormalizedAnswer]:
        """Return one answer per row; the question router decides the category, that of the row is ignored."""
        questions, answers = ([row_text(row, field) for row in rows] for field in HEADS)
        read = [answer_text(answer) for answer in answers]
        asked = self._labels("question", [question[-MAX_CHARS:] for question in questions])
        given = self._labels("answer", [text for text, _ in read])
        values: list[NormalizedAnswer] = []
        for question, answer, (text, numbers), category, label in zip(questions, answers, read, asked, given, strict=True):
            agree = bool(text) and category == label.partition(" ")[0]
            values.append(label_to_answer(label, question, answer, numbers) if agree else None)
        if not self._guess:
            return values
        if guessed := sum(value is None for value in values):
            logger.warning("guessed %d of %d answers as the released program does", guessed, len(values))
        return [PUBLISHED_GUESSES.get(category, 1) if value is None else value for category, value in zip(asked, values, strict=True)]

    def _labels(self, head: str, texts: Sequence[str]) -> list[str]:
        """Return the label of every text, "unreadable" where its probability is too low."""
        found = tqdm(self._routers[head].classify(texts), f"{head} router", total=len(texts), unit="row", disable=None)
        return [label if probability >= self._min_probability else UNREADABLE for label, probability in found]
