"""Laws of kinds that are read from texts: what a model learns to write shows what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_predictor import BOXES, depth_map, random_image

from smolrgpt.data.worlds import generate_scene, random_generator, resolve_layouts
from smolrgpt.data.worlds.question_sets import plain_questions
from smolrgpt.inference.answer_kinds import AnswerKinds
from smolrgpt.inference.generation import AnswerGenerator
from smolrgpt.inference.predictor import Predictor
from smolrgpt.schema import Sample
from smolrgpt.schema.truth import Truth
from smolrgpt.tasks import OTHER, TASKS, task_named
from smolrgpt.train.answers import copied_answer

#: Whether something fits is written as the comparison of two widths, or of a height with a given length.
ALIKE = {"fits": {"comparison", "threshold"}}


@pytest.mark.parametrize("world", ["warehouse", "room", "tabletop", "yard"])
def test_the_text_that_a_model_learns_shows_the_kind(world: str) -> None:
    kinds, seen = AnswerKinds(copies_lengths=True), set()
    for number, layout in enumerate(resolve_layouts("known", world)[:3]):
        graph = generate_scene((23, number), layout=layout).graph
        for question in plain_questions(graph, random_generator(23, number), 150):
            regions = [item.region for item in question.objects]
            truth, value = Truth(steps=question.steps), question.normalized_answer
            sample = Sample("0", "0.png", question.text, regions, answer=question.answer, normalized_answer=value, truth=truth)
            sample.category = question.category
            text = copied_answer(sample)
            assert text is not None
            found = kinds.kind_of(text, OTHER, len(regions)).name
            assert found in {question.category, *ALIKE.get(question.category, ())}, text
            assert kinds.kind_of(text, task_named(question.category), len(regions)).name == question.category, text
            seen.add(question.category)
    assert seen >= {task.name for task in TASKS.values() if task.plain_makers} - {"between", "vertical", "count_where"}


def test_a_random_model_of_all_kinds_answers_in_a_form_of_one(tiny_checkpoint: Path) -> None:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.processor.answer_field = predictor.processor.kinds_from_text = True
    generator = AnswerGenerator(predictor.model, predictor.processor)
    predictor.generator, predictor.max_new_tokens = generator, 40
    for answer in predictor.ask_many(
        random_image(0), ["Is <region 0> in <region 1>?", "What colour is <region 0>?"], depth_map(0), BOXES[:2]
    ):
        assert answer.kind in TASKS
        assert (answer.reason is None) == (answer.kind != "cannot_tell")
        assert answer.kind in ("other", "cannot_tell") or answer.normalized_answer is not None, answer
