"""Answer: the result of a Predictor for a question, read from the text that the model generated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from smolrgpt import schema
from smolrgpt.inference.generation import Generated
from smolrgpt.inference.inputs import Question
from smolrgpt.schema import Region
from smolrgpt.schema.inputs_read import InputsRead
from smolrgpt.tasks.cannot_tell import CANNOT_TELL, explain, refusal_reason
from smolrgpt.tasks.region_text import renumber_tags

#: The character that an unfinished UTF-8 character is decoded to.
_UNFINISHED_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class Answer(schema.Answer):
    """The answer of a model, whose confidence is always known; a notebook shows it with its image.

    Attributes:
        prompt_tokens: Tokens that the model read: of the image, the regions and the question.
        completion_tokens: Tokens that the model wrote, the end included.
    """

    confidence: float
    prompt_tokens: int = field(default=0, compare=False)
    completion_tokens: int = field(default=0, compare=False)

    def _repr_html_(self) -> str:
        """Show the answer in a notebook, below the image with its numbered regions where ``ask`` or ``ask_many`` returned it."""
        from smolrgpt.viz.gallery import answer_card

        context: tuple[Any, ...] = getattr(self, "_context", (None, None, ()))
        return answer_card(self, *context)

    def with_context(self, question: str, image: Image.Image, regions: list[Region]) -> Answer:
        """Attach what ``_repr_html_`` shows. It is not a field: equal answers stay equal, and stored answers stay small."""
        object.__setattr__(self, "_context", (question, image, regions))
        return self


def make_answer(question: Question, generated: Generated, inputs: InputsRead, seconds: float) -> Answer:
    """Read the normalised answer from a generated text; give both in the caller's region indices and in the unit that is asked for."""
    task, value = generated.task or question.task, None
    counts = len(question.input_ids), generated.num_tokens
    if (reason := refusal_reason(generated.text)) is not None:
        return Answer(explain(reason), None, CANNOT_TELL.name, seconds, generated.confidence, inputs, None, reason, *counts)
    if generated.field is not None:
        value = task.read(question.text, generated.field)
    if value is None:
        value = task.read(question.text, generated.text)
    text = renumber_tags(task.renumber_field(generated.text, question.indices), question.indices)
    text, value, unit = task.in_asked_unit(question.text, text, task.renumber(value, question.indices))
    return Answer(text, value, task.name, seconds, generated.confidence, inputs, unit, None, *counts)


def readable_prefix(question: Question, text: str) -> str:
    """Return an unfinished answer in the caller's region indices, without a region, an index or a character that may be incomplete."""
    text = question.task.without_unfinished_field(question.text, text.rstrip(_UNFINISHED_CHARACTER))
    bracket = text.rfind("[")
    return renumber_tags(text if bracket < 0 or "]" in text[bracket:] else text[:bracket], question.indices)
