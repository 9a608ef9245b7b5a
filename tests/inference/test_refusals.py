"""Laws of answers that are withheld, and of the kind that a text shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import regex
import torch
from test_predictor import BOXES, depth_map, random_image

from smolrgpt.inference.answer import Answer, make_answer
from smolrgpt.inference.answer_kinds import AnswerKinds
from smolrgpt.inference.generation import AnswerFieldConstraint, Generated
from smolrgpt.inference.inputs import Question
from smolrgpt.inference.predictor import Predictor
from smolrgpt.inference.refusals import check_min_confidence, withhold
from smolrgpt.model.processing_smolrgpt import LENGTH_TOKEN
from smolrgpt.schema.inputs_read import InputsRead
from smolrgpt.tasks import FIELD_SEPARATOR, TASKS, task_named
from smolrgpt.tasks.cannot_tell import CANNOT_TELL, WRITTEN_REASONS, explain, steps_of

A, B, C = "[Region 0]", "[Region 1]", "[Region 2]"


@pytest.fixture(scope="module")
def bundled() -> Predictor:
    return Predictor.from_pretrained("nano", dtype=torch.float32, device="cpu")


# ------------------------------------------------------------------------------------------------------------------- kinds from text
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"{A}{B}: left", "left_right"),
        (f"{A}{B}: LENGTH", "distance"),
        (f"{A} width: LENGTH", "width"),
        (f"{A} height: LENGTH", "height"),
        (f"{A}{B} up: LENGTH", "vertical"),
        (f"{A}{B} left{A}, leftmost mug{A}: 0", "mcq"),
        (f"{A}{C} 1, {B}{C} 2: 2", "count"),
        (steps_of("colour"), "cannot_tell"),
        ("gibberish: left", "other"),
    ],
)
@pytest.mark.parametrize("asked", ["other", "left_right", "distance", "mcq", "count", "cannot_tell", "width"])
def test_the_text_shows_the_kind_whatever_the_rules_took_it_for(copies: bool, text: str, kind: str, asked: str) -> None:
    text = text.replace("LENGTH", LENGTH_TOKEN if copies else "1.29")
    assert AnswerKinds(copies).kind_of(text, task_named(asked), 3).name == kind


@pytest.mark.parametrize("text", ["left", f"{A}{B}: left"])
def test_the_kind_of_the_rules_stands_where_the_text_fits_it(text: str) -> None:
    assert AnswerKinds(True).kind_of(text, task_named("left_right"), 2).name == "left_right"


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("num_regions", [0, 1, 3, 15])
def test_the_fields_of_all_kinds_are_those_of_each(copies: bool, num_regions: int) -> None:
    kinds = AnswerKinds(copies)
    union = kinds.any_field_pattern(num_regions)
    examples = [" left", " 0", f" {num_regions - 1}", *([f" {LENGTH_TOKEN}"] if copies else [" 1.25"])]
    for field in examples if num_regions else examples[:2]:
        assert regex.fullmatch(union, field), field
    assert not regex.fullmatch(union, " colour") and not regex.fullmatch(union, " tomorrow")
    assert copies == (not regex.fullmatch(union, " 1.25"))


@pytest.mark.parametrize("seed", range(20))
def test_a_model_of_all_kinds_ends_and_refuses_with_a_known_reason_only(bundled: Predictor, seed: int) -> None:
    vocabulary, kinds = bundled.generator.vocabulary, AnswerKinds(False)
    assert vocabulary is not None
    generator = torch.Generator().manual_seed(seed)
    start = bundled.processor.tokenizer("cannot tell:" if seed % 2 else f"{A}{B}:", add_special_tokens=False)["input_ids"]
    constraint = AnswerFieldConstraint(vocabulary, [kinds.any_field_pattern(3)], 3, 48, CANNOT_TELL.field_pattern(3))
    ids = torch.tensor([[0, 0, 0, *start]])
    for _ in range(48):
        ids = torch.cat([ids, constraint(ids, 5 * torch.randn(1, len(vocabulary.words), generator=generator)).argmax(-1, keepdim=True)], 1)
        if int(ids[0, -1]) == vocabulary.end:
            break
    text = vocabulary.text(ids[0, 3:-1].tolist())
    field = text.rpartition(FIELD_SEPARATOR)[2].strip()
    assert int(ids[0, -1]) == vocabulary.end
    assert (field in WRITTEN_REASONS) == bool(seed % 2)


# ---------------------------------------------------------------------------------------------------------------------- refusals
def test_a_text_that_refuses_is_a_refusal() -> None:
    question = Question("?", task_named("left_right"), [], [], [0])
    answer = make_answer(question, Generated(steps_of("price"), 0.9, "price", 5, CANNOT_TELL), InputsRead(), 0.0)
    assert (answer.kind, answer.reason, answer.normalized_answer, answer.unit) == ("cannot_tell", "price", None, None)
    assert answer.answer == explain("price") and answer.completion_tokens == 5


@pytest.mark.parametrize("category", ["left_right", "distance", "count"])
@pytest.mark.parametrize("least", [0.0, 0.5, 0.50001, 1.0, {"distance": 0.6}, {}])
def test_answers_below_the_least_confidence_are_withheld(category: str, least) -> None:
    answer = Answer("1", 1, category, 0.0, 0.5, InputsRead(), "m" if category == "distance" else None)
    found, needed = withhold(answer, least), least if isinstance(least, float) else least.get(category, 0)
    if needed <= 0.5:
        assert found is answer
    else:
        assert found.kind == "cannot_tell" and found.normalized_answer is None and found.unit is None and found.confidence == 0.5
        assert found.reason == ("no scale" if category == "distance" else "unsure"), "no depth is known here"


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", {"count": 2}])
def test_what_is_no_confidence_is_refused(value) -> None:
    with pytest.raises(ValueError, match=r"min_confidence is .*; expected a number from 0"):
        check_min_confidence(value)


def test_the_bundled_model_refuses_what_words_show_and_withholds_on_demand(bundled: Predictor) -> None:
    image, depth = random_image(0), depth_map(0)
    asked = ["What colour is <region 0>?", "How far is <region 0> from <region 1>?", "How far is it?"]
    colour, length = bundled.ask_many(image, asked[:2], depth, BOXES[:2])
    assert (colour.kind, colour.reason, colour.normalized_answer) == ("cannot_tell", "colour", None)
    assert length.kind == "distance" and length.reason is None
    assert bundled.ask(image, "How far is it?", depth).reason == "no region"
    withheld = bundled.ask(image, asked[1], depth, BOXES[:2], min_confidence=1.0)
    assert withheld.kind == "cannot_tell" and withheld.reason in ("unsure", "no scale")
    assert bundled.ask(image, asked[1], depth, BOXES[:2], min_confidence=0).answer == length.answer
    assert "reason" in dataclasses.asdict(colour)


def test_a_model_of_other_questions_is_not_refused_for(tiny_checkpoint: Path) -> None:
    predictor = Predictor.from_pretrained(tiny_checkpoint, dtype=torch.float32, device="cpu")
    predictor.processor.answer_field = False
    assert predictor.ask(random_image(0), "How many cars?").reason is None


def test_the_options_of_the_processor_are_saved(bundled: Predictor, tmp_path: Path) -> None:
    processor = bundled.processor
    assert processor.kinds_from_text is False and processor.min_confidence == {}
    try:
        processor.kinds_from_text, processor.min_confidence = True, {"distance": 0.4}
        processor.save_pretrained(tmp_path)
    finally:
        processor.kinds_from_text, processor.min_confidence = False, {}
    again = type(processor).from_pretrained(tmp_path)
    assert again.kinds_from_text is True and again.min_confidence == {"distance": 0.4}


def test_kinds_that_are_told_by_their_steps_state_them() -> None:
    for task in TASKS.values():
        if task.steps_pattern is not None:
            regex.compile(task.steps_pattern)
            assert task.field_pattern(3) is not None, task.name
