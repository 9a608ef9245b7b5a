r"""Texts of any model as rules read them: without LaTeX and mark-up, numbers in one spelling, and the lengths that they state.

A comma before exactly three digits separates thousands ("1,250 mm"), and so does a point in mm and cm; any other comma, and one behind a
leading 0, is a decimal one ("2,5 m", "0,250 m"); of two separators the last is the decimal one ("1.250,5"). Of a range the middle counts,
of "5 feet 3 inches" the sum.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from smolrgpt.schema.text import plain_text
from smolrgpt.tasks.region_text import LENGTH_UNITS, words_to_digits

# ----------------------------------------------------------------------------------------------------------------- LaTeX and mark-up
_LATEX = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:SI|si|qty)\s*\{([^{}]*)\}\s*\{\\?([^{}]*)\}", r"\1 \2"),
        (r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2"),
        (r"\{([,.])\}", r"\1"),
        (r"\s*\\(?:times|cdot)\s*10\s*\^\s*\{?\s*([+-]?\d{1,2})\s*\}?", r"e\1"),
        (r"\\pm(?![a-z])", "±"),
        (r"\}?\s*\^\s*\{?\s*([23])\s*\}?", r"^\1"),
        (r"\\(?:[a-zA-Z]+\s*(?=\{)|left\b|right\b|displaystyle\b|,|;|:|!)", " "),
        (r"\\(?:approx|simeq|sim|quad|qquad|big[lr]?|Big[lr]?)\b|~(?=\s*\\)", " "),
        (r"\\([\[\]()%$#_&])", r"\1"),
        (r"(?<=\d)~", " "),
        (r"[${}]|\\\\|\\(?=\s)", " "),
    )
)
_MARK_UP = re.compile(r"\*+|`+|__+|^\s*(?:#+|>)\s*")
_EXPONENT = re.compile(r"(?<=\d)\s*[x\u00d7]\s*10\s*\^\s*\{?([+-]?\d{1,2})\}?")


def json_answer(text: str) -> str:
    """Return the value of a reply that is a JSON object with one answer, with its unit; any other text is returned unchanged.

    {"distance": 1.75}, {"answer": "left", "reason": "..."}, {"height": 175, "unit": "cm"} and {"width_cm": 60} have one answer.
    """
    try:
        reply = json.loads(_CODE_FENCE.sub("", text.strip()))
    except (ValueError, RecursionError):
        return text
    if not isinstance(reply, dict):
        return text
    values = {key.lower(): value for key, value in reply.items() if isinstance(value, str | int | float) and not isinstance(value, bool)}
    unit = values.pop("unit", values.pop("units", ""))
    named = [key for key in values if key in ("answer", "normalized_answer")] or list(values)
    if len(named) != 1 or len(values) != len(reply) - ("unit" in reply or "units" in reply):
        return text
    suffix = named[0].rpartition("_")[2]
    return f"{values[named[0]]} {unit or (suffix if suffix in LENGTH_UNITS else '')}".strip()


def plain_answer(text: str) -> str:
    """Return an answer without LaTeX and mark-up, in the form of ``plain_text`` line by line; the text inside of both stays."""
    if "\\" in text or "$" in text:
        for _ in range(3):  # commands inside of commands
            for pattern, new in _LATEX:
                text = pattern.sub(new, text)
    text = _EXPONENT.sub(r"e\1", text)
    return "\n".join(line for line in (plain_text(_MARK_UP.sub("", line)) for line in text.splitlines()) if line)


_CODE_FENCE = re.compile(r"\A```\w*\s*|\s*```\Z")


# --------------------------------------------------------------------------------------------------------------------------- numbers
_FRACTIONS = {"½": 0.5, "¼": 0.25, "¾": 0.75, "⅓": 1 / 3, "⅔": 2 / 3, "⅛": 0.125}
_FRACTION = re.compile(rf"(?:(\d+) ?)?([{''.join(_FRACTIONS)}])")
_HUNDRED = re.compile(r"\b(?:(\d{1,2}) |an? )(hundred|thousand)\b(?:(?: and)? (\d{1,3})\b)?")
_SCALE = {"hundred": 100, "thousand": 1000}
_GROUPED = r"\d{1,3}(?:[ ,.']\d{3})+(?!\d)"
NUMBER = rf"(?:{_GROUPED}(?:[.,]\d{{1,9}})?|\d{{1,9}}(?:[.,]\d{{1,9}})?|\.\d{{1,9}})(?:e[+-]?\d{{1,2}})?"
_WORDS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\b(\d+) point (\d(?: \d)*)\b", r"\1.\2"),
        (r"\b(\d+) and (?:a |one |1 )half\b", r"\1.5"),
        (r"\b(\d+) and (?:a |one |1 )quarter\b", r"\1.25"),
        (r"\b(\d+) and (?:3|three) quarters?\b", r"\1.75"),
        (r"\b(?:an?|1) (\w+) and a half\b", r"1.5 \1"),
        (r"\b(?:3|three)[- ]quarters? of an? ", "0.75 "),
        (r"\b(?:an? |1 )?quarter(?: of)? an? ", "0.25 "),
        (r"\b(?:an? |1 )?half (?:of )?(?:an? )?(?=[mfiyc])", "0.5 "),
        (r"\ba couple of\b", "2"),
        (r"\b(ft|yds?|approx)\.(?=[\s\d])", r"\1"),  # not the end of a sentence
        (r"\ban? (?=(?:foot|inch|yard|met(?:er|re)|centimet(?:er|re))\b)", "1 "),
    )
)


def digits(text: str) -> str:
    """Replace numbers in lower-case words by digits: "twenty-five" 25, "half a meter" 0.5 meter, "one and a half" 1.5, "a foot" 1 foot."""
    text = words_to_digits(text)
    text = _HUNDRED.sub(lambda found: str(int(found[1] or 1) * _SCALE[found[2]] + int(found[3] or 0)), text)
    for pattern, new in _WORDS:
        text = pattern.sub(new, text)
    return _FRACTION.sub(lambda found: f"{int(found[1] or 0) + _FRACTIONS[found[2]]:.6g}", text)


def read_number(text: str) -> float:
    """Return the value of a match of ``NUMBER``; see the module for what separates thousands and decimals."""
    text, _, exponent = text.replace(" ", "").replace("'", "").partition("e")
    last = max(text.rfind(","), text.rfind("."))
    whole, mark, rest = text[: max(last, 0)], text[last : last + 1], text[last + 1 :]
    other = {",": ".", ".": ","}.get(mark, "")
    groups = mark in whole or (mark == "," and len(rest) == 3 and whole.strip("0") != "" and other not in whole)
    value = text.replace(",", "").replace(".", "") if last < 0 or groups else f"{whole.replace(',', '').replace('.', '')}.{rest}"
    return float(f"{value}e{exponent or 0}")


# --------------------------------------------------------------------------------------------------------------------------- lengths
#: Metres of a unit -> metres of the smaller unit that may follow it and is added: 5 feet 3 inches, 1 m 20 cm.
_SUBUNIT = {LENGTH_UNITS[unit][0]: LENGTH_UNITS[part][0] for unit, part in (("ft", "in"), ("m", "cm"), ("yd", "ft"))}
_UNIT = "|".join(f"(?P<{unit}>{spellings})" for unit, (_, spellings) in LENGTH_UNITS.items())
#: What stands between the ends of a range.
RANGE = r"\s*(?:-|~|to|or)\s*"
_LENGTH = re.compile(
    rf"(?<![\w.,/])(?<![^a-z]-)(?<!\A-)(?P<low>{NUMBER}|\d{{1,2}}/\d{{1,2}})(?:[ -](?P<over>\d{{1,2}}/\d{{1,2}}))?"
    rf"(?:(?:{RANGE}|\s*(?P<and>and)\s*)(?P<high>{NUMBER}))?"
    rf"[\s-]*[(\[]?(?:{_UNIT})(?![a-z²³^])(?!(?<=[a-z])\d)(?!\s*/\s*(?:s|h|min)\b)",
    re.IGNORECASE,
)
#: Thousands of mm and cm, of which nobody states thousandths.
_DOTTED = re.compile(r"\A([1-9]\d{0,2})\.(\d{3})\Z")
_TOLERANCE = re.compile(rf"\s*(?:±|\+\s*/?\s*-|plus[- ]or[- ]minus)\s*{NUMBER}")
_JOINS_SUM, _JOINS_RANGE = re.compile(r"\s*(?:,|and)?\s*"), re.compile(RANGE)
_CONCLUDED = re.compile(
    r"(?:\b(?:answer|distance|height|width|length|gap|result|value|separation)\b(?: (?:between|from|of|to)\b[^.]*?)?|\Ait)"
    rf"(?: is|:| would be| =)(?: equal to)? ((?:(?:about|approximately|around|roughly|~) ?)?{NUMBER})[\s.!]*\Z"
)
_BARE = re.compile(rf"(?:(?:about|approximately|approx|around|roughly|~|≈|=)\s*)?({NUMBER})\.?")


@dataclass(frozen=True)
class _Quantity:
    """A quantity from ``low`` to ``high`` in a unit of so many ``metres``, found in text[start:end]."""

    low: float
    high: float
    metres: float
    start: int
    end: int

    @property
    def middle_m(self) -> float:
        """The middle of the quantity in metres."""
        return (self.low + self.high) / 2 * self.metres


def stated_lengths(text: str) -> list[float]:
    """Return the lengths that a text of ``digits`` states with their units, in metres and in order."""
    text = _TOLERANCE.sub("", text)
    found = [_quantity(match, text) for match in _LENGTH.finditer(text)]
    return [quantity.middle_m for quantity in _joined(_joined(found, text, _sum), text, _range)]


def concluded_number(text: str) -> float | None:
    """Return the number without a unit with which a conclusion ends ("The answer is 1.75"), None for any other text."""
    found = _CONCLUDED.search(_TOLERANCE.sub("", text))
    return None if found is None else bare_number(found[1])


def bare_number(text: str) -> float | None:
    """Return the value of a text that is a number and nothing else, but a word such as "about"."""
    found = _BARE.fullmatch(_TOLERANCE.sub("", text).strip())
    return None if found is None else read_number(found[1])


def without_lengths(text: str) -> str:
    """Return a text without the lengths that it states."""
    return _LENGTH.sub(" ", text)


def _joined(quantities: list[_Quantity], text: str, join: Callable[[_Quantity, _Quantity, str], _Quantity | None]) -> list[_Quantity]:
    """Merge neighbours where ``join(first, second, text between them)`` returns a quantity."""
    done: list[_Quantity] = []
    for quantity in quantities:
        merged = join(done[-1], quantity, text[done[-1].end : quantity.start]) if done else None
        done = [*done[:-1], merged] if merged else [*done, quantity]
    return done


def _sum(first: _Quantity, second: _Quantity, gap: str) -> _Quantity | None:
    """Merge "5 feet, 3 inches", not "2 feet, 24 inches", which is the same length twice."""
    if not _JOINS_SUM.fullmatch(gap) or _SUBUNIT.get(first.metres) != second.metres or second.middle_m >= first.metres:
        return None
    value = first.low + second.middle_m / first.metres
    return replace(first, low=value, high=value, end=second.end)


def _range(first: _Quantity, second: _Quantity, gap: str) -> _Quantity | None:
    """Merge "2 m to 3 m"."""
    if not _JOINS_RANGE.fullmatch(gap) or first.low != first.high:
        return None
    return replace(first, high=second.high * second.metres / first.metres, end=second.end)


def _quantity(match: re.Match[str], text: str) -> _Quantity:
    metres = next(factor for unit, (factor, _) in LENGTH_UNITS.items() if match[unit] is not None)
    ends = [end and (_DOTTED.sub(r"\1,\2", end) if metres <= LENGTH_UNITS["cm"][0] else end) for end in (match["low"], match["high"])]
    low, start = _value(ends[0]), match.start()
    high = low if match["high"] is None else _value(ends[1])
    if match["and"] and not re.search(r"between\s*$", text[:start]):  # "pillar 2 and 3 meters"
        low = high
    if match["over"]:
        low = high = low + _value(match["over"])
    return _Quantity(low, high, metres, start, match.end())


def _value(number: str) -> float:
    above, over, below = number.partition("/")
    return int(above) / max(int(below), 1) if over else read_number(number)
