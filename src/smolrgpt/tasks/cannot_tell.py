"""Questions that an image with depth and marked regions cannot answer, and why: their reasons, how they are recognised, worded and shown.

A model refuses in the words ``cannot tell: REASON``; REASON is a key of ``REASONS``. The normalised answer of a refusal is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolrgpt.schema import SceneGraph, Wording
from smolrgpt.tasks.base import FIELD_SEPARATOR, Cue, NormalizedAnswer, Task
from smolrgpt.tasks.drawing import pick, shuffled
from smolrgpt.tasks.question import Question
from smolrgpt.tasks.wording import ask_in_words

#: What stands before the separator in a refusal, in place of steps.
REFUSAL = "cannot tell"
_REFUSED = re.compile(rf"\s*{REFUSAL}\s*{FIELD_SEPARATOR}\s*(\w[\w ]*?)\s*", re.IGNORECASE)
#: Questions of this kind are asked before all others: "What colour is the leftmost of <mask> and <mask>?"
_RANK = 4


@dataclass(frozen=True)
class Reason:
    """Why a question cannot be answered.

    Attributes:
        explanation: ends the sentence "It cannot be told: ...".
        patterns: what recognises such a question, as in ``Cue``; none where words do not show the reason.
    """

    explanation: str
    patterns: tuple[str, ...] = ()


NO_REGION, NO_SCALE, UNSURE, UNMARKED = "no region", "no scale", "unsure", "unmarked"
_TIMES = (
    r"(?:yesterday|tomorrow|tonight|ago|earlier|later|next(?! to)|last|before|soon"
    r"|(?:in|for|after) (?:an?|one|two|five|ten|\d+) (?:hour|minute|day|week)s?)"
)
#: What an image does not show, by name. The patterns are strict: a question that can be answered is rarely worded like them.
REASONS: dict[str, Reason] = {
    "colour": Reason(
        "the question is about colour",
        (
            r"(?:what|which) (?:\w+ )?colou?r(?:ed|s)?\b|colou?rs? (?:of|is|does|has|are)\b",
            r"(?:is|are) (?:the (?:\w+ ){1,3})?<mask> (?:mostly |rather )?"
            r"(?:red|green|blue|yellow|white|black|brown|grey|gray|orange|purple|pink)\b"
            r"(?! (?:\w+ ){0,3}<mask>)",
            r"(?:darker|brighter|lighter) (?:in )?(?:colou?r|shade)\b|(?:same|similar) (?:colou?r|shade)\b",
            r"by its colou?r\b|shade of\b|colou?rs?$",
        ),
    ),
    "weight": Reason(
        "the question is about weight",
        (
            r"how (?:heavy|light)\b|(?:how much|what) (?:do|does|did|would|might|could|can) .{0,80}\bweigh\b|weighs\b",
            r"(?:too|so) heavy\b|weigh$",
            r"weigh (?:more|less|as much)\b",
            r"(?:weight|mass) (?:of|in kilos|in kg)\b|(?:heavier|heaviest|lightest|heavyweight)\b|lighter\b(?! (?:in )?(?:colou?r|shade))",
            r"how many (?:kilos?|kilograms?|kgs?|grams?|tons?|tonnes?|pounds|lbs?)\b",
        ),
    ),
    "price": Reason(
        "the question is about a price",
        (
            r"(?:how much|what) (?:do|does|did|would|might|will) .{0,80}\bcosts?\b|how (?:expensive|cheap|much money)\b",
            r"(?:price|value|cost)s? (?:of|in (?:euros?|dollars?))\b|cheaper\b|cheapest\b",
            r"costs?\b|expensive\b|cheap\b|what price\b|pay for\b",
            r"(?:more|most|less|least) (?:expensive|valuable)\b",
            r"(?:is|are) .{0,40}\bworth\b|how many (?:euros?|dollars?|bucks)\b",
        ),
    ),
    "material": Reason(
        "the question is about a material",
        (
            r"(?:what|which) .{0,80}\bmade (?:of|from|out)\b|what's (?:the (?:\w+ ){1,3})?<mask> made\b",
            r"(?:what|which) (?:kind of |sort of )?materials?\b",
            r"(?:is|are) (?:the (?:\w+ ){1,3})?<mask> (?:really )?(?:made|wooden|metallic)\b|materials? (?:of|is|does)\b",
            r"mask>[^<]*\bmade (?:of|out of|from)\b[^<]*$|made of the same\b|same material\b",
        ),
    ),
    "time": Reason(
        "the question is about the past or the future",
        (
            r"when (?:was|were|will|did|is|does|do)\b[^<]*<mask>|since (?:when|what time|this|last|yesterday)\b|(?:what|which) time\b",
            r"(?:happen(?:ed|s)?(?! to be)|delivered|arrived?|older|moving (?:towards|away|to)|was here before)\b",
            r"where (?:will|was|were|did) .{0,80}\b" + _TIMES + r"\b",
            r"(?:will|was|were|did|has)\b[^<]*<mask> .{0,80}\b" + _TIMES + r"\b",
            r"how long (?:has|have|will|did|ago)\b",
        ),
    ),
    "opinion": Reason(
        "the question asks for an opinion",
        (
            r"do you (?:like|love|prefer|enjoy|hate)\b|what do you think (?:of|about)\b|your (?:opinion|favou?rite|taste)\b",
            r"(?:beautiful|prettier|prettiest|pretty <mask>|nicer|nicest|ugly|uglier|ugliest|attractive|best looking|better looking)\b",
            r"good (?:one|idea|enough)\b|better than\b|(?:comfortable|tasty|boring|pretty)$|buy\b|you like\b",
            r"looks? (?:good|nice|better|best|bad|worse)\b",
        ),
    ),
    "identity": Reason(
        "the question is about who somebody is",
        (
            r"who (?:owns?|put|made|built|bought|left|placed|parked|drove|works?|sent|packed|ordered|moved|brought|uses?)\b",
            r"(?:what|which) (?:company|brand)\b|who (?:last|needs|was it)\b|who is responsible\b",
            r"who [^<]*<mask>[^<]* is$|mask>[^<]* mine$|to whom\b|to which person\b|owner of\b",
            r"who(?:'s| is| are) (?:(?:the|that|this) )?(?:\w+ )?(?:in |at )?<mask>$|whose\b",
            r"name of the (?:person|man|woman|driver|worker|owner)\b|belongs? to (?:whom|who)\b|who (?:do|does) .{0,60}\bbelong\b",
        ),
    ),
    UNMARKED: Reason("the question is about something that is not marked"),
    NO_REGION: Reason("the question marks no region"),
    NO_SCALE: Reason("a length needs metric depth, or things of known size"),
    UNSURE: Reason("the model is not sure enough"),
    "other": Reason(
        "an image does not show what the question is about",
        (
            r"how (?:hot|cold|warm|old|fast|loud|strong|fresh|fragile|clean|dirty)\b",
            r"is [^<]*<mask> (?:broken|clean|dirty|full|empty|hot|locked|switched on|safe|dangerous|waterproof|plugged in|usable)\b[^<]*$",
            r"(?:what is|what's) (?:written\b|inside\b[^<]*<mask>[^<]*$)|what does [^<]*<mask> contain\b|what does it say\b|written on\b",
            r"(?:do|does) [^<]*<mask> (?:still )?(?:work|make a noise)\b|how do i\b|be repaired\b",
            r"used? [^<]*(?:<mask> )?for$|how does\b.*\bwork$|story about\b|why is\b",
            r"(?:what|which) (?:temperature|age|smell|taste)\b",
            r"(?:temperature|brand|serial number|age|smell|taste) of\b|(?:smells?|tastes?) (?:like|of|good|bad)\b",
        ),
    ),
}
#: The reasons that a model writes; the others are found by code.
WRITTEN_REASONS = tuple(name for name in REASONS if name not in (NO_SCALE, UNSURE))


@dataclass(frozen=True, eq=False, kw_only=True)
class CannotTellTask(Task):
    """A question that cannot be answered; its normalised answer is always None."""

    def field_pattern(self, num_regions: int) -> str:
        """Return the pattern of a reason."""
        return f" ?(?:{'|'.join(WRITTEN_REASONS)})"

    def parse(self, value: Any) -> Any:
        """Raise ValueError: a refusal has no short answer."""
        raise ValueError("a question that cannot be answered has no normalised answer")

    def describe_problem(self, value: Any, num_regions: int) -> str | None:
        """Return the expected form of an answer: none at all."""
        return None if value is None else "null, because the question cannot be answered"

    def format_answer(self, value: NormalizedAnswer, unit: str | None = None) -> str:
        """Return "cannot tell"."""
        return REFUSAL


def explain(reason: str) -> str:
    """Return the sentence that a person reads, of a key of ``REASONS``."""
    return f"It cannot be told: {REASONS[reason].explanation}."


def refusal_reason(text: str) -> str | None:
    """Return the reason that a model's text ``cannot tell: REASON`` gives, "other" for one that is not known; None for any other text."""
    found = _REFUSED.fullmatch(text)
    return None if found is None else next((name for name in REASONS if name == found[1].lower()), "other")


def reason_in_words(question: str) -> str:
    """Return the reason for which the words of a question show that it cannot be answered; "other" where none matches.

    question: as of ``recognition.plain_words``.
    """
    return next((name for name, found in REASONS.items() if any(re.search(rf"\b(?:{p})", question) for p in found.patterns)), "other")


# ---------------------------------------------------------------------------------------------------------------------- questions
def ask_unanswerable(graph: SceneGraph, rng: np.random.Generator, wording: Wording) -> Question | None:
    """Ask something about one or two objects that an image does not tell, in plain words; sometimes a question without a region."""
    objects = shuffled(graph.objects, rng)[:2]
    if len(objects) < 2:
        return None
    reason = pick(rng, WRITTEN_REASONS)
    text, marked = ask_in_words("cannot_tell", reason, dict(zip("ab", objects, strict=True)), rng, wording)
    return Question(text, marked, explain(reason), None, CANNOT_TELL.name, steps_of(reason))


def steps_of(reason: str) -> str:
    """Return the text in which a model refuses."""
    return f"{REFUSAL}{FIELD_SEPARATOR} {reason}"


CANNOT_TELL = CannotTellTask(
    name="cannot_tell",
    title="cannot be told",
    cues=tuple(Cue(_RANK, pattern) for reason in REASONS.values() for pattern in reason.patterns),
    steps_pattern=REFUSAL,
    plain_makers=((1.0, ask_unanswerable),),
)
