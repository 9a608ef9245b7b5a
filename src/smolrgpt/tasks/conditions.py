"""Conditions that things meet: how many do, whether any does, and whether one does. Conditions are data.

Steps go thing by thing: ``[item][X] left 1`` is a running count of those that are left of X.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smolrgpt.schema import SceneGraph, SceneObject
from smolrgpt.schema.scene_graph import round_length
from smolrgpt.tasks.base import STEP_REGION, Cue, ReplySchema
from smolrgpt.tasks.count import COUNT, CountTask
from smolrgpt.tasks.draft import Draft, Drawer, Namer, makers_of
from smolrgpt.tasks.drawing import pick, shuffled
from smolrgpt.tasks.measures import CLEAR_RATIO, HEIGHT, clear_ratio, metres
from smolrgpt.tasks.question import join_steps
from smolrgpt.tasks.region_text import number_word
from smolrgpt.tasks.relations import between_middles_m, contains, is_on, is_side_clear, side_of
from smolrgpt.tasks.wording import MAX_LISTED, Slot
from smolrgpt.tasks.yes_no import YesNoTask, yes_or_no

#: Given lengths are so many times the value of a thing that is listed, before they are rounded to two digits.
_GIVEN_FACTORS = (0.7, 1.4)
#: Share of the questions with the answer 0, or "no", that are asked.
_KEPT_EMPTY = 0.35


@dataclass(frozen=True)
class Condition:
    """What one of several things may meet, with regard to an anchor, a given length, or both.

    Attributes:
        name: of the condition, in the keys of wordings behind "c_" (count), "e_" (existence) and "p_" (of one thing).
        holds: whether a thing meets it, of scene, thing, anchor and given length in metres; None where that is not clear.
        step: how steps ask it of a thing ``{i}`` and the anchor ``{b}``.
        phrase: how answers name it, with the anchor ``{b}`` and the given length ``{x}``.
        measure: the value in metres that a given length is compared with; None where the condition has none.
        has_anchor: whether it needs an anchor.
        counted: the step before a running count where it differs.
    """

    name: str
    holds: Callable[[SceneGraph, SceneObject, SceneObject, float], bool | None]
    step: str
    phrase: str
    measure: Callable[[SceneGraph, SceneObject, SceneObject], float | None] | None = None
    has_anchor: bool = True
    counted: str | None = None

    @property
    def count_step(self) -> str:
        """The step before a running count."""
        return self.counted or self.step


def _distance_m(graph: SceneGraph, item: SceneObject, anchor: SceneObject) -> float | None:
    if contains(anchor, item) or contains(item, anchor):
        return None  # such a pair is at 0
    return between_middles_m(item, anchor) if anchor.drawn_box is None and item.drawn_box is None else None


def _is_clearly_less(value: float | None, given: float) -> bool | None:
    if not value or clear_ratio(value, given) < CLEAR_RATIO:
        return None
    return value < given


def _is_taller(graph: SceneGraph, item: SceneObject, given: float) -> bool | None:
    is_less = _is_clearly_less(HEIGHT.value(graph, item), given)
    return None if is_less is None else not is_less


def _is_on_side(side: str) -> Callable[[SceneGraph, SceneObject, SceneObject, float], bool | None]:
    return lambda graph, item, anchor, given: side_of(item, anchor) == side if is_side_clear(graph, [item, anchor]) else None


INSIDE = Condition("inside", lambda graph, item, anchor, given: contains(anchor, item), "{i}{b} inside", "inside {b}", counted="{i}{b}")
ON = Condition("on", lambda graph, item, anchor, given: is_on(item, anchor), "{i}{b} on", "on {b}")
LEFT, RIGHT = (Condition(side, _is_on_side(side), f"{{i}}{{b}} {side}", f"to the {side} of {{b}}") for side in ("left", "right"))
WITHIN = Condition(
    "within",
    lambda graph, item, anchor, given: _is_clearly_less(_distance_m(graph, item, anchor), given),
    "[Given]{b}{i}",
    "within {x} of {b}",
    _distance_m,
)
TALLER = Condition(
    "taller",
    lambda graph, item, anchor, given: _is_taller(graph, item, given),
    f"[Given]{{i}} {HEIGHT.word}",
    "taller than {x}",
    lambda graph, item, anchor: HEIGHT.value(graph, item),
    has_anchor=False,
)
ALL = Condition("all", lambda graph, item, anchor, given: True, "{i}", "listed", has_anchor=False)


# ----------------------------------------------------------------------------------------------------------------------------- draws
@dataclass(frozen=True)
class Facts:
    """What was drawn: a condition with its anchor and given length (nan where it has none), and things with whether they meet it."""

    condition: Condition
    anchor: SceneObject
    given: float
    things: dict[SceneObject, bool]

    @property
    def slots(self) -> dict[str, Slot]:
        """The slots of anchor and length, where the condition has them."""
        slots: dict[str, Slot] = {"b": self.anchor} if self.condition.has_anchor else {}
        return slots if self.condition.measure is None else {**slots, "length": self.given}

    def phrase(self, tag: Namer) -> str:
        """Return the condition in words."""
        words = self.condition.phrase
        return words.replace("{b}", tag(self.anchor) if "{b}" in words else "").replace(
            "{x}", "" if np.isnan(self.given) else metres(self.given)
        )

    def fill(self, step: str, item: SceneObject, tag: Namer) -> str:
        """Return the step of one thing."""
        step = step.replace("{i}", tag(item))
        return step.replace("{b}", tag(self.anchor)) if "{b}" in step else step


def draw_facts(graph: SceneGraph, rng: np.random.Generator, condition: Condition, least: int) -> Facts | None:
    """Draw an anchor, a given length and at least ``least`` things of which it is clear whether they meet the condition."""
    if not graph.has_plane or not graph.objects:
        return None
    if condition is INSIDE:
        anchors = [*graph.areas, *(item for item in graph.objects if any(contains(item, other) for other in graph.objects))]
    elif condition is ON:
        anchors = [item for item in graph.objects if any(is_on(other, item) for other in graph.objects if other is not item)]
    else:
        anchors = list(graph.objects)
    if not anchors:
        return None
    anchor, given = pick(rng, anchors), float("nan")
    others = [item for item in shuffled(graph.objects, rng) if item is not anchor or not condition.has_anchor]
    if condition.measure is not None:
        values = [value for item in others if (value := condition.measure(graph, item, anchor))]
        if not values:
            return None
        given = round_length(pick(rng, values) * float(rng.uniform(*_GIVEN_FACTORS)), 2)
    found = [(item, condition.holds(graph, item, anchor, given)) for item in others]
    clear = [(item, holds) for item, holds in found if holds is not None]
    if condition in (INSIDE, ON):  # few meet these, so that they come first
        few = [entry for entry in clear if entry[1]] if rng.random() < 1 - _KEPT_EMPTY else []
        clear = few + [entry for entry in clear if entry not in few]
    listed = clear[: max(least, int(rng.integers(2, MAX_LISTED + 1)) if least > 1 else 1)]
    if len(listed) < least:
        return None
    return Facts(condition, anchor, given, dict(shuffled(listed, rng)))


def _counting(facts: Facts) -> Callable[[Namer], str]:
    """Return what writes the steps: thing by thing, with how many met the condition so far."""

    def steps(tag: Namer) -> str:
        counts = itertools.accumulate(map(int, facts.things.values()))
        asked = (facts.fill(facts.condition.count_step, item, tag) for item in facts.things)
        return join_steps([f"{step} {count}" for step, count in zip(asked, counts, strict=True)])

    return steps


def draw_count(*conditions: Condition) -> Drawer:
    """Return what draws how many things meet one of the conditions."""

    def draw(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
        facts = draw_facts(graph, rng, pick(rng, conditions), 2)
        if facts is None:
            return None
        count = sum(facts.things.values())
        if not count and rng.random() > _KEPT_EMPTY:
            return None

        def answer(tag: Namer) -> str:
            meeting = " ".join(tag(item) for item, holds in facts.things.items() if holds)
            return f"{number_word(count)} of them {'is' if count == 1 else 'are'} {facts.phrase(tag)}{': ' + meeting if count else ''}."

        return Draft(f"c_{facts.condition.name}", {"list": list(facts.things), **facts.slots}, count, answer, _counting(facts))

    return draw


def draw_existence(*conditions: Condition) -> Drawer:
    """Return what draws whether any of several things meets one of the conditions."""

    def draw(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
        facts = draw_facts(graph, rng, pick(rng, conditions), 2)
        if facts is None:
            return None
        count = sum(facts.things.values())
        if count and rng.random() > _KEPT_EMPTY:  # most lists have one that does
            facts = Facts(facts.condition, facts.anchor, facts.given, {item: False for item, holds in facts.things.items() if not holds})
            count = 0
        if len(facts.things) < 2:
            return None
        verdict = yes_or_no(count > 0)

        def answer(tag: Namer) -> str:
            meeting = " ".join(tag(item) for item, holds in facts.things.items() if holds)
            return f"{verdict}: {meeting or 'none of them'} {'are' if count > 1 else 'is'} {facts.phrase(tag)}."

        return Draft(f"e_{facts.condition.name}", {"list": list(facts.things), **facts.slots}, verdict, answer, _counting(facts))

    return draw


def draw_predicate(*conditions: Condition) -> Drawer:
    """Return what draws whether one thing meets one of the conditions."""

    def draw(graph: SceneGraph, rng: np.random.Generator) -> Draft | None:
        facts = draw_facts(graph, rng, pick(rng, conditions), 1)
        if facts is None:
            return None
        (item, holds), verdict = next(iter(facts.things.items())), yes_or_no(next(iter(facts.things.values())))

        def answer(tag: Namer) -> str:
            far = _distance_m(graph, item, facts.anchor) if facts.condition is WITHIN else None
            if far is not None:
                return f"{verdict}: {tag(item)} is {metres(far)} from {tag(facts.anchor)}."
            return f"{verdict}: {tag(item)} is {'' if holds else 'not '}{facts.phrase(tag)}."

        return Draft(
            f"p_{facts.condition.name}",
            {"a": item, **facts.slots},
            verdict,
            answer,
            lambda tag: facts.fill(facts.condition.step, item, tag),
        )

    return draw


# ------------------------------------------------------------------------------------------------------------------------------ kinds
_ANCHOR = r"(?:\w+ ){0,4}<mask>"
_GIVEN = r"(?:about |around |a distance of |a radius of )?(?:\d|<length>|an? (?:met|foot|yard|half)|half a|one |two |three |four |five )"
_NO_CHOICE = (
    r"(?!.*\b(?:how|which|who|what|where|any|many|or(?! not\b| no\b| deny\b| false\b)|left|(?<!am i )right(?!$| to say\b)|distance|far)\b)"
)

_WITH_UNIT = r"(?:\d|<length>|half an? |(?:an?|one|two|three|four|five) (?:met|foot|feet|yard|inch))"
_ANY = r"(?:any(?! chance\b| idea\b)|(?:at least|even) one|(?:is|if|that|whether|there) one (?:of|among))"
_IN = r"in(?! (?:front|the (?:image|picture|photo|scene|view|middle)))"
_ON = r"on(?! the (?:image|picture|photo|other|same|side|left|right))"
_PLACED = rf"(?:inside|within|contained in|{_IN}|into|{_ON}|atop|upon)"
_TWO = r"(?=[^<]*<mask>[^<]*<mask>[^<]*$)"

_WHERE = makers_of("count_where", "conditions", (1.0, draw_count(ON, WITHIN, LEFT, RIGHT, TALLER, ALL)))
COUNT_WHERE = CountTask(
    name="count_where",
    title="count by a condition",
    cues=(
        Cue(11, rf"(?:how many|number of|count)\b.*\b(?:left|right) (?:hand )?(?:side )?of {_ANCHOR}"),
        Cue(11, rf"(?:how many|number of|count)\b.*\b(?:on top of|on top|atop|lying on|resting on|placed on|standing on) {_ANCHOR}"),
        Cue(11, rf"(?:how many|number of|count)\b.*\b(?:within|closer than|nearer than|less than|not farther than) {_GIVEN}"),
        Cue(11, rf"(?:how many|number of|count)\b.*\b(?:taller|higher|more) than {_GIVEN}"),
        Cue(
            11, r"how many (?:\w+ )?(?:regions|things|objects|items) (?:are|did|do|have) (?:\w+ )?(?:listed|list|named|name|marked|mark)\b"
        ),
    ),
    reply=ReplySchema("count", int, "How many objects were counted."),
    guess=1,
    steps_pattern=rf"(?:.*, )?(?:{STEP_REGION}{STEP_REGION} (?:left|right|on)|\[Given\].*|{STEP_REGION}) \d+",
    is_extra=True,
    makers=_WHERE["makers"],
    plain_makers=(*_WHERE["plain_makers"], *makers_of(COUNT.name, "conditions", (0.25, draw_count(INSIDE)))["plain_makers"]),
)
EXISTENCE = YesNoTask(
    name="existence",
    title="yes or no: whether any of several meets a condition",
    cues=(
        Cue(
            9,
            r"(?:is|are|does|do|has|have|can|could|sees?) (?:\w+ )?(?:any|at least one|a single one|even one|one) (?:one )?(?:of|among)\b",
        ),
        Cue(9, rf"^(?!.*\b(?:how|which|what|who)\b)(?:.*\b)?{_ANY}\b"),
        Cue(9, r"(?:is|are) there (?:any|anything|something|one|at least one|a)\b.*\b(?:of|among|amongst) (?:\w+ ){0,4}<mask>"),
    ),
    steps_pattern=r"(?:.*, )?.*\d+",
    is_extra=True,
    **makers_of("existence", "conditions", (1.0, draw_existence(INSIDE, ON, WITHIN, LEFT, RIGHT, TALLER))),
)
#: Its questions about sides have no cue: "Is A left of B?" is recognised as a question for the side, whose answer says the same.
RELATION = YesNoTask(
    name="relation",
    title="yes or no: a side, inside, on top, within a length",
    cues=(
        Cue(12, rf"^{_NO_CHOICE}{_TWO}(?=.*\b{_WITH_UNIT}).*\b(?:within|closer|nearer|less|most|more|under|radius|circle)\b"),
        Cue(18, rf"^{_NO_CHOICE}{_TWO}[^<]*<mask>[^<]*\b{_PLACED}\b[^<]*<mask>"),
        Cue(18, rf"^{_NO_CHOICE}{_TWO}[^<]*<mask>[^<]*<mask>[^<]*\b(?:inside|on top of it|in it|in there)\b"),
        Cue(18, rf"^{_NO_CHOICE}{_TWO}[^<]*<mask>[^<]*\b(?:contains?|holds?|carry|carries)\b[^<]*<mask>"),
    ),
    steps_pattern=rf"{STEP_REGION}{STEP_REGION} (?:left|right|inside|on)|\[Given\]{STEP_REGION}{STEP_REGION}",
    is_extra=True,
    **makers_of("relation", "conditions", (1.0, draw_predicate(INSIDE, ON, WITHIN, LEFT, RIGHT))),
)
