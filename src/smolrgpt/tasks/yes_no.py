"""Yes or no: predicates that compare two objects, or one with a length that the question gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.schema.scene_graph import round_length
from smolrgpt.tasks.answer_text import digits, stated_lengths
from smolrgpt.tasks.base import STEP_REGION, Cue, NormalizedAnswer, ReplySchema, Task
from smolrgpt.tasks.draft import Draft, Namer, makers_of
from smolrgpt.tasks.drawing import pick, shuffled
from smolrgpt.tasks.measures import (
    CLEAR_RATIO,
    COMPARATIVE,
    HEIGHT,
    MEASURES,
    PLAIN_LENGTHS,
    STEP_MEASURE,
    WIDTH,
    Measure,
    Pole,
    asked_pole,
    clear_ratio,
    draw_measured_pair,
    measured_objects,
    metres,
)
from smolrgpt.tasks.recognition import plain_words
from smolrgpt.tasks.relations import between_middles_m, distance_m
from smolrgpt.tasks.statements import asked_subject, is_negated, stated_comparison, stated_verdict
from smolrgpt.tasks.wording import Slot

_SPELLINGS = {"yes": "yes", "y": "yes", "true": "yes", "no": "no", "n": "no", "false": "no"}
REPLY = ReplySchema("verdict", Literal["yes", "no"], "Whether what the question asks holds.")


@dataclass(frozen=True, eq=False, kw_only=True)
class YesNoTask(Task):
    """A question whose answer is 'yes' or 'no'."""

    reply: ReplySchema | None = REPLY
    guess: NormalizedAnswer = "yes"

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of 'yes' and 'no'."""
        return " ?(?:yes|no)"

    def _read_short(self, text: str) -> NormalizedAnswer:
        return _SPELLINGS.get(text)

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return what the last sentence with a verdict says, where no statement that follows it says otherwise; else the last statement."""
        for read in (stated_verdict, lambda sentence: self._stated(question, sentence)):
            for sentence in reversed(sentences):
                holds = read(sentence)
                if holds is not None:
                    return yes_or_no(holds)
        return None

    def _stated(self, question: str, sentence: str) -> bool | None:
        """Return whether a sentence without a verdict states what the question asks; None where it states neither that nor the opposite."""
        return None

    def parse(self, value: Any) -> str:
        """Return 'yes' or 'no'. Raises ValueError for any other value."""
        verdict = _SPELLINGS.get(str(value).lower().strip())
        if verdict is None:
            raise ValueError("neither 'yes' nor 'no'")
        return verdict

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer, as text; None where ``value`` is valid."""
        return None if value in ("yes", "no") else "'yes' or 'no'"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that guessing one of the two gets right."""
        return 0.5


def yes_or_no(holds: bool) -> str:
    """Return the normalised answer of a predicate."""
    return "yes" if holds else "no"


@dataclass(frozen=True, eq=False, kw_only=True)
class ComparisonTask(YesNoTask):
    """Whether a comparison of two regions holds, such as "is A taller than B?"."""

    def _stated(self, question: str, sentence: str) -> bool | None:
        words = plain_words(question)
        asked = asked_pole(words)
        if asked is None:
            return None
        measure, pole = asked
        stated = stated_comparison(sentence, pole.spelling, measure.opposite(pole).spelling)
        if stated is None:
            return None
        subject, has_relation = stated
        return has_relation == (subject in (None, asked_subject(words)))


@dataclass(frozen=True, eq=False, kw_only=True)
class ThresholdTask(YesNoTask):
    """Whether a region has more, or less, of a measure than a length that the question gives."""

    def _stated(self, question: str, sentence: str) -> bool | None:
        """Return what the only length of the sentence that is not the question's means for the question."""
        asked, given = asked_pole(plain_words(question)), stated_lengths(digits(question.lower()))
        stated = [length for length in stated_lengths(digits(sentence.lower())) if length not in given]
        if asked is None or len(given) != 1 or len(stated) != 1:
            return None
        return (stated[0] > given[0]) == (asked[1] is asked[0].more)


@dataclass(frozen=True, eq=False, kw_only=True)
class FitsTask(YesNoTask):
    """Whether a region fits into another, or into a length that the question gives."""

    def _stated(self, question: str, sentence: str) -> bool | None:
        """Return whether a sentence says that something fits."""
        if not re.search(r"\b(?:fits?|pass(?:es)?|go(?:es)?|(?:wide|high|low|narrow|small) enough)\b", sentence.lower()):
            return True if re.search(r"\btoo (?:small|narrow|low)\b", sentence.lower()) and is_negated(sentence) else None
        return not is_negated(sentence)


# ---------------------------------------------------------------------------------------------------------------------- questions
#: Lengths that are given are so many times longer or shorter than the object's own, at least and at most.
_NEAREST_RATIO, _WIDEST_RATIO = 1.12, 2.0


def _draw_predicate(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    measure = pick(rng, MEASURES)
    pole = pick(rng, measure.poles)
    return _compare_two(graph, rng, measure, pole, "predicates", {"more": pick(rng, pole.comparatives), "amount": pick(rng, pole.amounts)})


def _draw_relation(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    measure, pole = pick(rng, [(measure, pole) for measure in MEASURES for pole in measure.poles if pole.places])
    return _compare_two(graph, rng, measure, pole, "relations", {"where": pick(rng, pole.places)})


def _compare_two(
    graph: SceneGraph, rng: np.random.Generator, measure: Measure, pole: Pole, asked: str, words: Mapping[str, str]
) -> Draft | None:
    drawn = draw_measured_pair(graph, rng, (measure,))
    if drawn is None:
        return None
    _, (a, b), (x, y) = drawn
    verdict = yes_or_no((x > y) == (pole is measure.more))
    return Draft(
        asked,
        {"a": a, "b": b, **words},
        verdict,
        lambda tag: f"{verdict}: {measure.state(tag(a), x, tag(b), y)}.",
        lambda tag: f"{tag(a)} {measure.word} [Length], {tag(b)} {measure.word} [Length]",
    )


def _draw_closer_of_three(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    found = shuffled(graph.objects, rng)[:3]
    if len(found) < 3 or not all(distance_m(found[0], item) for item in found[1:]):
        return None
    a, b, c = found
    near, far = between_middles_m(a, b), between_middles_m(a, c)
    if clear_ratio(near, far) < CLEAR_RATIO:
        return None
    verdict = yes_or_no(near < far)
    return Draft(
        "closer_of_three",
        {"a": a, "b": b, "c": c},
        verdict,
        lambda tag: f"{verdict}: {tag(a)} is {metres(near)} from {tag(b)} and {metres(far)} from {tag(c)}.",
        lambda tag: f"{tag(a)}{tag(b)} [Length], {tag(a)}{tag(c)} [Length]",
    )


def _draw_given(graph: SceneGraph, rng: np.random.Generator, measure: Measure) -> tuple[SceneObject, float, float] | None:
    """Return an object, its value, and a length that differs clearly from it, of two significant digits; all in metres."""
    objects = measured_objects(graph, measure)
    if not objects:
        return None
    item, value = pick(rng, objects)
    given = round_length(value * float(rng.uniform(_NEAREST_RATIO, _WIDEST_RATIO)) ** pick(rng, (-1, 1)), 2)
    return (item, value, given) if clear_ratio(value, given) >= CLEAR_RATIO else None


def _draw_threshold(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    measure = pick(rng, PLAIN_LENGTHS)
    pole, drawn = pick(rng, measure.poles), _draw_given(graph, rng, measure)
    if drawn is None:
        return None
    a, x, given = drawn
    verdict = yes_or_no((x > given) == (pole is measure.more))
    slots: dict[str, Slot] = {"a": a, "more": pick(rng, pole.comparatives), "length": given}
    return Draft("thresholds", slots, verdict, lambda tag: f"{verdict}: {measure.state_one(tag(a), x)}.", _given_steps(a, measure))


def _given_steps(item: SceneObject, measure: Measure) -> Callable[[Namer], str]:
    return lambda tag: f"[Given]{tag(item)} {measure.word} [Length]"


def _draw_fits_length(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    measure, asked = pick(rng, ((WIDTH, "fits_through"), (HEIGHT, "fits_under")))
    drawn = _draw_given(graph, rng, measure)
    if drawn is None:
        return None
    a, x, given = drawn
    verdict = yes_or_no(x < given)
    return Draft(
        asked, {"a": a, "length": given}, verdict, lambda tag: f"{verdict}: {measure.state_one(tag(a), x)}.", _given_steps(a, measure)
    )


def _draw_fits_into(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    drawn = draw_measured_pair(graph, rng, (WIDTH,))
    if drawn is None:
        return None
    _, (a, b), (x, y) = drawn
    verdict = yes_or_no(x < y)

    def steps(tag: Namer) -> str:
        return f"{tag(b)} {WIDTH.word} [Length], {tag(a)} {WIDTH.word} [Length]"

    return Draft("fits_into", {"a": a, "b": b}, verdict, lambda tag: f"{verdict}: {WIDTH.state(tag(a), x, tag(b), y)}.", steps)


# A predicate begins with its verb, or states something and asks for agreement.
_VERB = r"(?:is|are|does|do|has|have|would|will|can|could|might|should)"
_LENGTH = (
    r"\d+(?: \d+)? ?(?:[mcd]?m|(?:centi|milli)?met(?:er|re)s?|ft|feet|foot|in|inch(?:es)?|yards?)\b|length>|"
    r"(?:an?|one|two|three|half|four|five) (?:met(?:er|re)s?|feet|foot|inch(?:es)?|yards?)"
)
_NO_CHOICE = r"(?!.*\b(?:how|which|who|any|many)\b)"
_PASS = r"(?:pass|go(?:es)?|gets?|squeeze|slide|push)"
_THREE = r"(?=[^<]*<mask>[^<]*<mask>[^<]*<mask>[^<]*$)"
_DIMENSION = r"(?:tall|high|wide|broad|in height|in width|(?:away )?from the camera)"

STEP_PAIR = STEP_REGION + STEP_REGION
COMPARISON = ComparisonTask(
    name="comparison",
    title="yes or no: compares two regions",
    cues=(
        Cue(13, rf"^(?:\w+ ){{0,8}}{_VERB} (?:(?!which|what|how)\w+ ){{0,8}}<mask>[^<]*? {COMPARATIVE}[^<]*<mask>"),
        Cue(13, rf"^[^<]*\b(?:compar\w+|relative|next) (?:to|with) [^<]*<mask>[^<]*\b{_VERB} [^<]*<mask>[^<]*\b{COMPARATIVE}"),
        Cue(11, rf"mask>[^<]*\b{_VERB} the (?:first|former)(?: one)? (?:be )?{COMPARATIVE}(?! or\b)"),
        Cue(13, rf"^{_NO_CHOICE}{_THREE}.*\b(?:closer|nearer|farther|further|shorter|smaller|less (?:far|distant))\b"),
        Cue(17, rf"^{_NO_CHOICE}.*<mask>[^<]*? {COMPARATIVE}[^<]*<mask>"),
    ),
    steps_pattern=rf"(?:{STEP_MEASURE} \[Length\], {STEP_MEASURE}|{STEP_PAIR} \[Length\], {STEP_PAIR}) \[Length\]",
    is_extra=True,
    **makers_of("comparison", "compare", (0.55, _draw_predicate), (0.25, _draw_relation), (0.2, _draw_closer_of_three)),
)
THRESHOLD = ThresholdTask(
    name="threshold",
    title="yes or no: compares a region with a given length",
    cues=(
        Cue(11, rf"^{_NO_CHOICE}[^<]*<mask>[^<]*\b(?:{COMPARATIVE}|at (?:least|most))[^<]*\b(?:{_LENGTH})[^<]*$"),
        Cue(11, rf"^{_NO_CHOICE}[^<]*<mask>[^<]*\b(?:more|less) than [^<]*\b(?:{_LENGTH}) {_DIMENSION}[^<]*$"),
        Cue(11, rf"^{_NO_CHOICE}[^<]*\b(?:{_LENGTH})[^<]*<mask>[^<]*\b{COMPARATIVE}[^<]*$"),
    ),
    steps_pattern=rf"\[Given\]{STEP_MEASURE} \[Length\]",
    is_extra=True,
    **makers_of("threshold", "compare", (1.0, _draw_threshold)),
)
FITS = FitsTask(
    name="fits",
    title="yes or no: whether a region fits",
    cues=(
        Cue(10, r"^(?!.*\bhow\b).*\b(?:fits?|squeezes?|enough)\b"),
        Cue(10, rf"^(?!.*\b(?:how|what|above)\b).*\b{_PASS}\b[^<]*(?:<mask>[^<]*)?\b(?:through|under|beneath|below)\b"),
    ),
    steps_pattern=rf"(?:\[Given\]|{STEP_MEASURE} \[Length\], ){STEP_MEASURE} \[Length\]",
    is_extra=True,
    **makers_of("fits", "compare", (0.5, _draw_fits_length), (0.5, _draw_fits_into)),
)
