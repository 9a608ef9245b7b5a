"""Answer: the result of a predictor for a question."""

from __future__ import annotations

from dataclasses import dataclass, field

from smolrgpt.schema.inputs_read import InputsRead


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        answer: The text. Regions are named by the indices that the caller passed.
        normalized_answer: 'left' | 'right', an int count, a region index as a digit string, a length in ``unit``, or None when no rule
            reads the text or the question cannot be answered.
        category: The kind of question: a name of ``tasks.TASKS``, or the data set's own name; "cannot_tell" for a refusal.
        seconds: Wall time, shared evenly by questions that were answered together.
        confidence: From 0 to 1, the probability that the model gives to the whole text (for a length: to all texts within 10 % of it);
            None where the predictor has none.
        unit: The unit of ``normalized_answer``, a key of ``tasks.region_text.LENGTH_UNITS``: metres ("m"), or what the question asks for
            ("How many centimetres ..." "cm"); None where the answer is no length.
        reason: Why the question cannot be answered, a key of ``tasks.cannot_tell.REASONS`` such as "colour"; None for an answer.
        inputs: How the inputs were read, and what is doubtful about them; equality of answers does not depend on it.
    """

    answer: str
    normalized_answer: str | int | float | None
    category: str
    seconds: float
    confidence: float | None
    inputs: InputsRead = field(default=InputsRead(), compare=False)
    unit: str | None = None
    reason: str | None = None

    @property
    def kind(self) -> str:
        """The kind of question, as ``category``."""
        return self.category
