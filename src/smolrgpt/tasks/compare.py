"""Comparisons of regions: which of two or of several, and the order of two in height and in depth."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.tasks.base import STEP_REGION, Cue, NormalizedAnswer, ReplySchema, Task
from smolrgpt.tasks.choice import ChoiceTask
from smolrgpt.tasks.draft import Draft, Namer, makers_of
from smolrgpt.tasks.drawing import pick, shuffled
from smolrgpt.tasks.measures import (
    CLEAR_FIRST_RATIO,
    COMPARATIVE,
    ELEVATION,
    MEASURES,
    RANGE,
    STEP_MEASURE,
    SUPERLATIVE,
    Measure,
    asked_pole,
    clear_ratio,
    draw_measured_pair,
    measured_objects,
    metres,
)
from smolrgpt.tasks.recognition import plain_words
from smolrgpt.tasks.relations import between_middles_m
from smolrgpt.tasks.statements import asked_subject, stated_comparison
from smolrgpt.tasks.wording import MAX_LISTED, Slot

_REPLY = ReplySchema("region", int, "The number of the region that was chosen, as in [Region 3].")


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasureChoiceTask(ChoiceTask):
    """A question whose answer is the region that has more, or less, of a measure than the others."""

    reply: ReplySchema | None = _REPLY
    guess: NormalizedAnswer = "0"

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the region that a statement gives the measure asked for; of two regions the other one, where it gives the opposite."""
        words = plain_words(question)
        asked = asked_pole(words)
        if asked is not None:
            measure, pole = asked
            more, less = (f"{each.spelling}|{each.superlative_spelling}" for each in (pole, measure.opposite(pole)))
            for sentence in reversed(sentences):
                subject, has_relation = stated_comparison(sentence, more, less) or (None, True)
                if subject is not None and (has_relation or (words.count("<mask>") == 2 and subject < 2)):
                    return str(subject if has_relation else 1 - subject)
        return super()._read_sentences(question, sentences)


@dataclass(frozen=True, eq=False, kw_only=True)
class OrderTask(Task):
    """A question for the order of two regions along a measure, the answer being one of two words.

    Attributes:
        measure: what is ordered.
        words: the answer where the first region has more of the measure, and where it has less.
    """

    measure: Measure
    words: tuple[str, str]

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of the two words."""
        return f" ?(?:{'|'.join(self.words)})"

    def _read_short(self, text: str) -> NormalizedAnswer:
        held = [
            word
            for word, pole in zip(self.words, self.measure.poles, strict=True)
            if re.fullmatch(rf"{pole.spelling}|{word}(?: of)?", text)
        ]
        return held[0] if held else None

    def _read_sentences(self, question: str, sentences: Sequence[str]) -> NormalizedAnswer:
        """Return the place of the first region; a statement about the second one gives it mirrored."""
        more, less = (pole.spelling for pole in self.measure.poles)
        for sentence in reversed(sentences):
            stated = stated_comparison(sentence, more, less)
            if stated is not None:
                subject, has_more = stated
                return self.words[0] if has_more == (subject in (None, asked_subject(plain_words(question)))) else self.words[1]
        return None

    def parse(self, value: Any) -> str:
        """Return one of the two words. Raises ValueError for any other text."""
        word = self._read_short(str(value).lower().strip(" ."))
        if not isinstance(word, str):
            raise ValueError(f"neither {self.words[0]!r} nor {self.words[1]!r}")
        return word

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer, as text; None where ``value`` is valid."""
        return None if value in self.words else f"{self.words[0]!r} or {self.words[1]!r}"

    def chance(self, truths: Sequence[Any], num_regions: Sequence[int]) -> float:
        """Return the share that guessing one of the two gets right."""
        return 0.5


# ---------------------------------------------------------------------------------------------------------------------- questions
def _draw_choice(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    drawn = draw_measured_pair(graph, rng, MEASURES)
    if drawn is None:
        return None
    measure, (a, b), (x, y) = drawn
    pole = pick(rng, measure.poles)
    chosen = a if (x > y) == (pole is measure.more) else b
    slots: dict[str, Slot] = {"a": a, "b": b, "more": pick(rng, pole.comparatives), "amount": pick(rng, pole.amounts)}

    def steps(tag: Namer) -> str:
        (first, u), (second, v) = sorted(((a, x), (b, y)), key=lambda entry: tag(entry[0]))
        return f"{tag(first)} {measure.word}{tag(second)} {measure.word} {measure.compare(u, v)}{tag(chosen)}"

    return Draft("choices", slots, chosen, lambda tag: f"{tag(chosen)} is {slots['more']}: {measure.state(tag(a), x, tag(b), y)}.", steps)


def _draw_superlative(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    measure = pick(rng, MEASURES)
    listed = shuffled(measured_objects(graph, measure), rng)[: int(rng.integers(3, MAX_LISTED + 1))]
    pole = pick(rng, measure.poles)
    first = _find_first(listed, pole is measure.more)
    if first is None:
        return None
    values, objects = dict(listed), [item for item, _ in listed]

    def steps(tag: Namer) -> str:
        return _scan(
            objects,
            values,
            pole is measure.more,
            lambda best, item: f"{tag(best)} {measure.word}{tag(item)} {measure.word} {measure.compare(values[best], values[item])}",
            f"{pole.most}",
            tag,
        )

    most = pick(rng, pole.superlatives)

    def answer(tag: Namer) -> str:
        return f"{tag(first)} is the {most}: {measure.state_one(tag(first), values[first])}."

    return Draft("superlatives", {"list": objects, "most": most}, first, answer, steps)


def _draw_farthest(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
    found = shuffled(graph.objects, rng)[: int(rng.integers(4, MAX_LISTED + 2))]
    if not found:
        return None
    anchor, *objects = found
    values = {item: between_middles_m(anchor, item) for item in objects}
    first = _find_first(list(values.items()), True) if all(values.values()) else None
    if first is None:
        return None

    def steps(tag: Namer) -> str:
        return _scan(
            objects,
            values,
            True,
            lambda best, item: f"{tag(anchor)}{tag(best)}{tag(anchor)}{tag(item)} {RANGE.compare(values[best], values[item])}",
            RANGE.more.most,
            tag,
        )

    def answer(tag: Namer) -> str:
        return f"{tag(first)} is the farthest from {tag(anchor)}: the distance is {metres(values[first])}."

    return Draft("farthest", {"list": objects, "a": anchor}, first, answer, steps)


def _find_first(listed: Sequence[tuple[SceneObject, float]], most: bool) -> SceneObject | None:
    """Return the object with the greatest or smallest value of at least three; None where the second is nearly as good."""
    ordered = sorted(listed, key=lambda entry: entry[1], reverse=most)
    return ordered[0][0] if len(ordered) > 2 and clear_ratio(ordered[0][1], ordered[1][1]) >= CLEAR_FIRST_RATIO else None


def _scan(
    objects: Sequence[SceneObject],
    values: dict[SceneObject, float],
    most: bool,
    compare: Callable[[SceneObject, SceneObject], str],
    title: str,
    tag: Namer,
) -> str:
    """Return steps that compare the best object so far with each next one, and name the better one of the two; the last names the best."""
    steps, best = [], objects[0]
    for item in objects[1:]:
        better = best if (values[best] > values[item]) == most else item
        steps.append(f"{compare(best, item)}{tag(better)}")
        best = better
    return ", ".join([*steps, f"{title}{tag(best)}"])


def _draw_order(measure: Measure, words: tuple[str, str], asked: str) -> Callable[[SceneGraph, np.random.Generator], Draft | None]:
    def draw(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
        drawn = draw_measured_pair(graph, rng, (measure,))
        if drawn is None:
            return None
        _, (a, b), (x, y) = drawn
        word = words[0] if x > y else words[1]
        place = f"{word} of" if word == "in front" else word
        return Draft(
            asked,
            {"a": a, "b": b},
            word,
            lambda tag: f"{tag(a)} is {place} {tag(b)}.",
            lambda tag: f"{tag(a)} {measure.word}{tag(b)} {measure.word}",
        )

    return draw


_CHOOSE = r"(?:which|what|who|whose|between|of the two|name|pick|choose|tell(?! (?:me )?(?:if|whether)))"
_POLES = tuple(pole for measure in MEASURES for pole in measure.poles)
CHOICE_OF_TWO = MeasureChoiceTask(
    name="choice_of_two",
    title="choice of two by a measure",
    cues=(
        Cue(14, rf"{_CHOOSE}\b(?!.*\bthan (?:\w+ ){{0,6}}<mask>).*\b{COMPARATIVE}"),
        Cue(12, rf"mask>[^<]* (?:or|versus|vs|and) [^<]*<mask>(?: (?!how\b)\w+){{0,8}} {COMPARATIVE}(?!.*\bthan\b)"),
        Cue(14, rf"(?<!than )the {COMPARATIVE}(?: up| down| away)?(?: (?:from|to) the camera)? one\b(?!.*\bthan\b)"),
        Cue(14, rf"whichever is {COMPARATIVE}\b(?!.*\bthan\b)"),
        Cue(12, rf"^(?:\w+ )?{COMPARATIVE}(?: \w+){{0,6}} <mask> (?:or|and) (?:\w+ ){{0,3}}<mask>"),
    ),
    steps_pattern=rf"{STEP_MEASURE}{STEP_MEASURE} (?:{'|'.join(pole.word for pole in _POLES)}){STEP_REGION}",
    is_extra=True,
    **makers_of("choice_of_two", "compare", (1.0, _draw_choice)),
)
SUPERLATIVE_OF_SEVERAL = MeasureChoiceTask(
    name="superlative",
    title="which of several by a measure",
    cues=(
        Cue(16, SUPERLATIVE),
        Cue(16, r"(?:(?:greatest|largest|longest) (?:distance|way|walk)|most (?:remote|far))\b(?!.*\b(?:left|right)\b)"),
        Cue(16, r"(?:farthest|furthest|most distant|(?:farther|further) (?:\w+ )?than the others)\b(?!.*\b(?:left|right)\b)"),
    ),
    steps_pattern=rf".*\b(?:{'|'.join(pole.most for pole in _POLES)}){STEP_REGION}",
    is_extra=True,
    **makers_of("superlative", "compare", (0.8, _draw_superlative), (0.2, _draw_farthest)),
)
_UP_OR_DOWN = r"(?<!how much )(?:above|over|below|under(?:neath)?|beneath)"
_ORDER_REPLY = ReplySchema("order", Literal["above", "below"], "Whether the first region is above or below the second.")
ORDER_IN_HEIGHT = OrderTask(
    name="order_in_height",
    title="above or below",
    measure=ELEVATION,
    words=("above", "below"),
    cues=(Cue(11, rf"{_UP_OR_DOWN}\b.{{0,60}}\bor\b.{{0,60}}\b{_UP_OR_DOWN}\b"),),
    reply=_ORDER_REPLY,
    guess="above",
    steps_pattern=rf"{STEP_REGION} {ELEVATION.word}{STEP_REGION} {ELEVATION.word}",
    is_extra=True,
    **makers_of("order_in_height", "compare", (1.0, _draw_order(ELEVATION, ("above", "below"), "height_orders"))),
)
_DEPTH_REPLY = ReplySchema("order", Literal["behind", "in front"], "Whether the first region is behind or in front of the second.")
ORDER_IN_DEPTH = OrderTask(
    name="order_in_depth",
    title="behind or in front",
    measure=RANGE,
    words=("behind", "in front"),
    cues=(Cue(11, r"(?:behind|in front|in back)\b.{0,60}\bor\b.{0,60}\b(?:behind|in front|before|in back)\b"),),
    reply=_DEPTH_REPLY,
    guess="behind",
    steps_pattern=rf"{STEP_REGION} {RANGE.word}{STEP_REGION} {RANGE.word}",
    is_extra=True,
    **makers_of("order_in_depth", "compare", (1.0, _draw_order(RANGE, ("behind", "in front"), "depth_orders"))),
)
