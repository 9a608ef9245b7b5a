"""Laws of the answer field: whatever a model would like to say, its answer can be read."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import regex
import torch
from test_predictor import samples
from transformers import LogitsProcessorList

from smolrgpt.data.worlds import generate_scene, random_generator, scene_samples
from smolrgpt.inference.generation import (
    AnswerFieldConstraint,
    FieldVocabulary,
    LogprobRecorder,
    length_probability,
)
from smolrgpt.inference.predictor import Predictor
from smolrgpt.tasks import FIELD_SEPARATOR, task_named

CATEGORIES = ("left_right", "count", "mcq", "distance")


@pytest.fixture(scope="module")
def bundled() -> Predictor:
    return Predictor.from_pretrained("nano", dtype=torch.float32, device="cpu")


def _draw(vocabulary: FieldVocabulary, category: str, max_new_tokens: int, seed: int) -> str:
    """What a model with random opinions says."""
    generator = torch.Generator().manual_seed(seed)
    field = AnswerFieldConstraint(vocabulary, [task_named(category).field_pattern(5)], 3, max_new_tokens)
    ids = torch.zeros(1, 3, dtype=torch.long)
    for _ in range(max_new_tokens):
        scores = 5 * torch.randn(1, len(vocabulary.words), generator=generator)
        ids = torch.cat([ids, field(ids, scores).argmax(-1, keepdim=True)], 1)
        if int(ids[0, -1]) == vocabulary.end:
            return vocabulary.text(ids[0, 3:-1].tolist())
    raise AssertionError("the answer did not end")


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_answer_ends_and_can_be_read(bundled: Predictor, category: str) -> None:
    assert bundled.generator.vocabulary is not None
    generated = [_draw(bundled.generator.vocabulary, category, 24, seed) for seed in range(30)]
    for text in generated:
        field = text.rpartition(FIELD_SEPARATOR)[2]
        assert regex.fullmatch(task_named(category).field_pattern(5), field)
        assert task_named(category).parse_or_none(task_named(category).read("", field)) is not None, text
        assert category != "mcq" or int(field) < 5
    assert len({text.rpartition(FIELD_SEPARATOR)[2] for text in generated}) > 1


def test_rows_of_a_batch_do_not_touch_one_another(bundled: Predictor) -> None:
    vocabulary, size = bundled.generator.vocabulary, len(bundled.generator.vocabulary.words)
    ids = torch.tensor([[0, 0, vocabulary.separator], [0, 0, vocabulary.end], [0, 0, vocabulary.separator]])
    patterns = [task_named("count").field_pattern(2), task_named("count").field_pattern(2), None]
    scores = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    kept = AnswerFieldConstraint(vocabulary, patterns, 2, 24)(ids, scores)
    assert torch.equal(kept[1:], scores[1:]), "rows that are done, or that nothing is asked of, stay as they are"
    assert set(kept[0].isfinite().nonzero().flatten().tolist()) == set(vocabulary.allowed(task_named("count").field_pattern(2), ""))
    assert torch.equal(AnswerFieldConstraint(vocabulary, patterns[:1], 1, 24)(ids[:1, 1:], scores[:1]), kept[:1]), "padding changes nothing"


def test_a_random_model_answers_readably(tiny_checkpoint: Path) -> None:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.generator.vocabulary = FieldVocabulary(predictor.processor.tokenizer, predictor.generator.end_id)
    predictor.max_new_tokens = 24
    asked = (
        "Is <mask> left of <mask>?",
        "How far is <mask> from <mask>?",
        "Which of <mask> <mask> is leftmost?",
        "How many of <mask> <mask>?",
    )
    pairs = [row for row in samples() if len(row.regions) == 2]
    rows = [dataclasses.replace(row, question=question, id=f"{row.id}/{question}") for row in pairs for question in asked]
    answers = predictor.predict_samples(rows, 4)
    assert {answer.category for answer in answers} == set(CATEGORIES)
    assert all(task_named(answer.category).parse_or_none(answer.normalized_answer) is not None for answer in answers)
    assert all(0 <= answer.confidence <= 1 for answer in answers)


def test_a_distances_confidence_is_that_of_all_distances_near_it() -> None:
    """Against the sum over every number of two digits, the second one drawn evenly where the first is another."""
    rng = np.random.default_rng(0)
    for text in ("4.8", "1.05", "9.9", "12.3"):
        digits = rng.dirichlet(np.full(10, 0.3), size=len(text))
        chosen = [0.0 if c == "." else math.log(digits[i][int(c)]) for i, c in enumerate(text)]
        numbers = {}
        for number in itertools.product(*("." if c == "." else "0123456789" for c in text)):
            probability, same = 1.0, True
            for place, (character, wanted) in enumerate(zip(number, text, strict=True)):
                if character != ".":
                    probability *= digits[place][int(character)] if same else 0.1
                same = same and character == wanted
            numbers["".join(number)] = probability
        near = sum(p for n, p in numbers.items() if 0.9 * float(text) <= float(n) <= 1.1 * float(text))
        assert length_probability(text, chosen, digits) == pytest.approx(near, abs=0.06)
        assert sum(numbers.values()) == pytest.approx(1)
    assert length_probability("0", [math.log(0.7)], [[0.7, 0.3, *[0.0] * 8]]) == pytest.approx(0.7)


def test_confidence_is_the_probability_of_the_text(tiny_checkpoint: Path) -> None:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.max_new_tokens = 6
    rows = samples()
    together = predictor.predict_samples(rows, batch_size=4)
    alone = [predictor.predict_samples([row], batch_size=1)[0] for row in rows]
    assert [a.confidence for a in together] == pytest.approx([a.confidence for a in alone], rel=1e-4)
    asked = predictor.ask(rows[0].image, rows[0].question, rows[0].depth, rows[0].regions)
    assert asked.confidence == pytest.approx(together[0].confidence, rel=1e-4)
    assert all(0 < answer.confidence < 1 for answer in together)


def test_the_bundled_models_distances_have_such_a_confidence(bundled: Predictor) -> None:
    row = dataclasses.replace(samples()[3], question="How far is <mask> from <mask>?")
    found = bundled.predict_samples([row])[0]
    ids = bundled.processor.tokenizer(f" {found.normalized_answer}", add_special_tokens=False).input_ids
    assert len(ids) == len(str(found.normalized_answer)), "a character is a token, so its digits can be weighed"
    assert {bundled.generator.vocabulary.digits[i] for i in ids if i in bundled.generator.vocabulary.digits} == {
        int(c) for c in str(found.normalized_answer) if c != "."
    }


def test_chosen_probabilities_are_those_of_the_library(tiny_checkpoint: Path) -> None:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    recorder, words = LogprobRecorder(), predictor.processor.tokenizer("left of here", return_tensors="pt")
    found = predictor.model.generate(
        input_ids=words.input_ids,
        attention_mask=words.attention_mask,
        do_sample=False,
        max_new_tokens=5,
        output_scores=True,
        return_dict_in_generate=True,
        logits_processor=LogitsProcessorList([recorder]),
    )
    written = found.sequences[0, words.input_ids.shape[1] :]
    scores = torch.stack(found.scores, 1)[0].log_softmax(-1).gather(1, written[:, None]).flatten()
    assert [float(step[0]) for step in recorder.chosen] == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize("model", ["tiny", "bundled"])
def test_rows_that_leave_change_no_answer(model: str, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, and as sure, as the library's own greedy search, which computes ended rows to the last; and rows do leave."""
    predictor = Predictor.from_pretrained(tiny_checkpoint if model == "tiny" else "nano", dtype=torch.float32, device="cpu")
    predictor.max_new_tokens = 40
    asked, left = samples() if model == "tiny" else scene_samples(generate_scene(7), 12, random_generator(7)), []
    keep = LogprobRecorder.keep
    monkeypatch.setattr(LogprobRecorder, "keep", lambda self, rows: left.append(len(rows)) or keep(self, rows))
    found = predictor.predict_samples(asked)
    monkeypatch.setattr("smolrgpt.inference.generation.greedy_search", None)
    counted = len(left)
    expected = predictor.predict_samples(asked)
    assert len(left) == counted and (counted or model == "tiny")
    for one, other in zip(found, expected, strict=True):
        assert (one.answer, one.normalized_answer) == (other.answer, other.normalized_answer)
        assert one.confidence == pytest.approx(other.confidence, rel=1e-4)
