"""Task: one kind of question, and everything that depends on the kind.

A Task defines how its questions are recognised, which form its answer may take while it is decoded, how an answer is read from text,
parsed, checked, compared with the truth, guessed by chance, displayed and described to a language model. Nothing outside of this
package compares the names of kinds. Legend: R regions of a question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from smolrgpt.tasks.answer_text import json_answer, plain_answer
from smolrgpt.tasks.official import FormMaker
from smolrgpt.tasks.question import Maker
from smolrgpt.tasks.region_text import renumber
from smolrgpt.tasks.wording import PlainMaker

#: A short answer: 'left', a count, a region index as digits, metres; None where there is none.
NormalizedAnswer = str | int | float | None

#: A region in steps, as a regular expression for ``Task.steps_pattern``.
STEP_REGION = r"\[Region \d+\]"
#: What stands between the steps of an answer and its normalised answer, in the styles "brief" and "steps" of training.
FIELD_SEPARATOR = ":"
#: A longer text is no answer: those of the data sets have some hundred characters, the longest chain a model is taught some thousand.
MAX_ANSWER_CHARS = 10_000

_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n+")
_QUOTED = re.compile(r"\A(['\"])(.*)\1\Z")
#: The last part of a text: a separator (or the start), and digits that may be a region index.
_FINAL_DIGITS = re.compile(rf"((?:^|{FIELD_SEPARATOR}) ?)(\d*)$")


@dataclass(frozen=True)
class Cue:
    """A regular expression that recognises a kind of question from its words.

    It is searched in the output of ``recognition.plain_words``: lower case, no punctuation, regions as ``<mask>``. Cues of a lower rank
    are tried first; among cues of the same rank the one that matches earliest in the question decides. See ``CueRank``.
    """

    rank: int
    pattern: str


class CueRank:
    """Ranks of cues: the lower the number, the earlier a cue is tried. Kinds may use numbers in between."""

    #: Both alternatives are named ("left or right"), or an expression that only one kind uses ("vertical distance").
    EXPLICIT = 10
    #: The words with which a question begins to ask ("how many", "which", "how far is").
    INTERROGATIVE = 20
    #: The quantity asked for, by name ("the distance between").
    NOUN = 30
    #: A superlative that picks one of several ("the leftmost").
    SUPERLATIVE = 40
    #: A dimension ("height").
    DIMENSION = 50
    #: A word that suggests a kind ("apart", "gap").
    HINT = 60
    #: A word that other kinds use as well ("left").
    WEAK = 70


@dataclass(frozen=True)
class ReplySchema:
    """The form in which a language model reports an answer: one field of a JSON object, null where the answer does not give it."""

    field: str
    type: Any
    description: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """One kind of question. This class is the kind that has no short answer; subclasses override what differs.

    Attributes:
        name: the category in data sets, unique.
        title: what reports call it.
        cues: how its questions are recognised; none for a kind that is only asked in training.
        reply: the report of a language-model extractor; None where there is nothing to extract.
        guess: the answer of a submission where none can be read.
        names_region: its normalised answer is a region index.
        is_length: its normalised answer is in metres, which ``in_asked_unit`` converts for the reader.
        makers: what draws its questions from a scene, with weights.
        plain_makers: the same in plain words of one wording.
        steps_pattern: a regular expression of the steps (before the separator) of this kind's answers, as far as they differ from those of
            other kinds with the same field; None where answers are not told by their steps.
        is_extra: a synthetic data set asks its makers in ``<split>_extra.json``.
        form_maker: what asks an official form of the kind; None where the official data set has none.
    """

    name: str
    title: str
    cues: tuple[Cue, ...] = ()
    reply: ReplySchema | None = None
    guess: NormalizedAnswer = ""
    makers: tuple[tuple[float, Maker], ...] = ()
    plain_makers: tuple[tuple[float, PlainMaker], ...] = ()
    steps_pattern: str | None = None
    is_extra: bool = False
    form_maker: FormMaker | None = None
    names_region: bool = field(default=False, init=False)
    is_length: bool = field(default=False, init=False)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    # ---------------------------------------------------------------------------------------------------------------------- decoding
    def field_pattern(self, num_regions: int) -> str | None:
        """Return the regular expression that the answer field must match; None where any text may stand."""
        return None

    # ----------------------------------------------------------------------------------------------------------------------- reading
    def read(self, question: str, text: str) -> NormalizedAnswer:
        """Return the normalised answer that a free text gives, None where no rule reads one."""
        if len(text) > MAX_ANSWER_CHARS:
            return None
        sentences = [sentence for sentence in _SENTENCE_END.split(plain_answer(json_answer(text))) if sentence.strip()]
        if not sentences:
            return None
        short = self._read_short(_QUOTED.sub(r"\2", sentences[-1].strip(" .!,;:()")).strip(" .!,;:").lower())
        return short if short is not None else self._read_sentences(question, sentences)

    def _read_short(self, text: str) -> NormalizedAnswer:
        """Return the answer where a stripped lower-case text consists of nothing else."""
        return None

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the answer that a chain of statements gives."""
        return None

    # ----------------------------------------------------------------------------------------------------------- normalised answers
    def parse(self, value: Any) -> Any:
        """Return a normalised answer in the form that ``is_correct`` compares. Raises ValueError for any other value."""
        raise ValueError(f"questions of the kind {self.name!r} have no short answer")

    def parse_or_none(self, value: Any) -> Any:
        """Return ``parse(value)``, None for None and for a value that is no answer of this kind."""
        try:
            return None if value is None else self.parse(value)
        except ValueError:
            return None

    def is_correct(self, truth: Any, prediction: Any) -> bool:
        """Compare two parsed answers."""
        return bool(truth == prediction)

    def relative_error(self, truth: Any, prediction: Any) -> float | None:
        """Return the official relative error of two parsed answers, None for a kind that is right or wrong only."""
        return None

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of a data set's normalised answer, as text; None where ``value`` is valid."""
        return None

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share (0 to 1) that guessing gets right, given how often each parsed truth occurs and R of each question."""
        return 0.0

    # -------------------------------------------------------------------------------------------------------------- to other readers
    def renumber(self, value: NormalizedAnswer, indices: Sequence[int]) -> NormalizedAnswer:
        """Return a normalised answer in the caller's region indices; ``indices[i]`` is the caller's index of mention i."""
        return renumber(value, indices) if self.names_region and isinstance(value, str) else value

    def renumber_field(self, text: str, indices: Sequence[int]) -> str:
        """Return an answer text whose answer field gives the caller's region index; text before the field is returned unchanged."""
        if not self.names_region:
            return text
        return _FINAL_DIGITS.sub(lambda match: match[1] + renumber(match[2], indices), text)

    def in_asked_unit(self, question: str, text: str, value: NormalizedAnswer) -> tuple[str, NormalizedAnswer, str | None]:
        """Return an answer's text and normalised answer, both of metres, in the unit that the question asks for, and the unit.

        The unit is None for an answer that is no length.
        """
        return text, value, None

    def without_unfinished_field(self, question: str, text: str) -> str:
        """Return an unfinished answer without a region index or a length of which only the first digits may have been written."""
        return _FINAL_DIGITS.sub("", text) if self.names_region else text

    def format_answer(self, value: NormalizedAnswer, unit: str | None = None) -> str:
        """Format a normalised answer for display, with its unit (of a length, by default metres) or as ``[Region k]``."""
        return "no short answer" if value is None else str(value)


@dataclass(frozen=True, eq=False, kw_only=True)
class OtherTask(Task):
    """A question of no kind that is known."""

    def renumber_field(self, text: str, indices: Sequence[int]) -> str:
        """Renumber a final number that names a region: one that repeats a region chosen by name just before the separator.

        Steps choose a region by a word directly before it ("nearest pallet[Region 4]: 4"); counts and lengths end otherwise.
        """
        chosen = _CHOSEN_REGION.search(text)
        return text if chosen is None else f"{text[: chosen.start(2)]}{renumber(chosen[2], indices)}"


#: A region behind a word, the separator, and the same number again: the end of a chain of steps that chooses a region.
_CHOSEN_REGION = re.compile(rf"[a-z]\[Region (\d+)\]{FIELD_SEPARATOR} ?(\1)$")
