"""Laws of questions that cannot be answered."""

from __future__ import annotations

import pytest

from smolrgpt.data.worlds import generate_scene, random_generator, resolve_layouts
from smolrgpt.tasks import recognise
from smolrgpt.tasks.cannot_tell import (
    CANNOT_TELL,
    NO_REGION,
    REASONS,
    WRITTEN_REASONS,
    ask_unanswerable,
    explain,
    reason_in_words,
    refusal_reason,
    steps_of,
)
from smolrgpt.tasks.recognition import plain_words
from smolrgpt.tasks.wording import load_wordings

FORMS = load_wordings("cannot_tell")
#: Reasons whose questions have words that no answerable question has.
IN_WORDS = [reason for reason, found in REASONS.items() if found.patterns and reason != "other"]


def _fill(form: str, named: str = "the mug <mask>") -> str:
    return form.format(a=named, b="<mask>")


@pytest.mark.parametrize("reason", REASONS)
def test_a_refusal_reads_back_as_its_reason_and_has_a_sentence(reason: str) -> None:
    assert refusal_reason(steps_of(reason)) == reason
    assert refusal_reason(steps_of(reason).replace(": ", ":").upper()) == reason
    assert explain(reason).startswith("It cannot be told: ") and explain(reason).endswith(".")
    assert refusal_reason(f"[Region 0] {steps_of(reason)}") is None


def test_reasons_that_no_model_knows_are_other() -> None:
    assert refusal_reason("cannot tell: the moon") == "other" and refusal_reason("I cannot tell you how far") is None


@pytest.mark.parametrize("named", ["<mask>", "the mug <mask>", "<region 3>"])
@pytest.mark.parametrize("reason", IN_WORDS)
def test_known_forms_are_recognised_with_their_reason(reason: str, named: str) -> None:
    for form in FORMS[reason]["known"]:
        question = _fill(form, named)
        assert recognise(question) is CANNOT_TELL, question
        assert reason_in_words(plain_words(question)) == reason, question


@pytest.mark.parametrize("family", ["side", "distance", "choice", "count", "size"])
def test_answerable_questions_are_never_taken_for_it(family: str) -> None:
    slots = {"a": "the mug <mask>", "b": "the box <mask>", "list": "<mask>, <mask>", "side": "leftmost", "short": "left"}
    for forms in load_wordings(family).values():
        for form in (*forms["known"], *forms["reserved"]):
            assert recognise(form.format(**slots)) is not CANNOT_TELL, form


def test_wordings_have_every_written_reason_and_reserve_some() -> None:
    assert set(FORMS) == set(WRITTEN_REASONS)
    for reason, forms in FORMS.items():
        assert not set(forms["known"]) & set(forms["reserved"]) and min(len(forms["known"]), len(forms["reserved"])) >= 8
        assert all(("{" in form) == (reason != NO_REGION) for form in forms["known"] + forms["reserved"])


@pytest.mark.parametrize("world", ["warehouse", "room", "tabletop"])
def test_made_questions_mark_what_they_name_and_have_no_short_answer(world: str) -> None:
    graph, reasons = generate_scene((5, 1), layout=resolve_layouts("known", world)[0]).graph, set()
    rng = random_generator(5, 2)
    for _ in range(200):
        question = ask_unanswerable(graph, rng, "known")
        assert question is not None
        assert question.text.count("<mask>") == len(question.objects) == len(set(map(id, question.objects)))
        reason = refusal_reason(question.steps)
        assert reason is not None and question.normalized_answer is None and question.answer == explain(reason)
        assert bool(question.objects) == (reason != NO_REGION)
        reasons.add(reason)
    assert reasons == set(WRITTEN_REASONS)
