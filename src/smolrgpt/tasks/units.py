"""Units of length: which one a question asks for, and how a length is written in it. Models read and write metres."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from smolrgpt.tasks.region_text import LENGTH_UNITS, NUMBER_WORDS

METRE = "m"
#: The name of feet with inches, which are written "5 ft 7 in" and, as one number, in feet.
FEET_AND_INCHES = "ft in"
#: Digits that a converted length has: an answer is right within 10 %.
SIGNIFICANT_DIGITS = 3
_FOOT, _INCHES_PER_FOOT = "ft", 12

# The inch's "in" is a preposition in most questions: it is the unit only as "(in)", "in in" and "ft in".
_SPELLINGS = {unit: spellings for unit, (_, spellings) in LENGTH_UNITS.items()} | {
    "in": r"inch(?:es)?|(?<=\bin )in\b|(?<=[(\[])in(?=[)\]])",
    "ft": r"ft|foot|feet",
}
_UNIT = re.compile(
    rf"(?<![\w.])(?:{'|'.join(f'(?P<{unit}>{spellings})' for unit, spellings in _SPELLINGS.items())})"
    r"(?![\w²³^]|\s*(?:/|per\b|squared\b|cubed\b)|'s)",
    re.IGNORECASE,
)
_NUMBER = rf"(?:\d[\d.,/½]*|½|\b(?:{'|'.join(NUMBER_WORDS)}|half|half an?|an?|few|several|couple of|per|each|square|cubic|sq))"
#: A unit behind a number is part of the question ("the 6-inch pipe"), and no request.
_QUANTITY = re.compile(rf"{_NUMBER}[\s-]*{_UNIT.pattern}", re.IGNORECASE)
_COMPOUND = re.compile(
    r"\b(?:ft|feet|foot)\b\.?(?:\s*(?:and|[&+/-])\s*(?:in|inch(?:es)?)\b(?!\s+(?:front|the|met\w+|[cm]m)\b)"
    r"|\s*,\s*(?:in\b(?!\s+\w)|inch(?:es)?\b)|\s*inch(?:es)?\b|\s+in(?=\W*$))"
    r"|\b(?:imperial|us customary)(?: units)?\b",
    re.IGNORECASE,
)
#: What stands before a unit that is asked for, from the clearest request to the weakest.
_REQUESTS = (
    re.compile(r"(?:\b(?:how many|in|as|into|of|to|units?|use|using)[\s:=]+(?:(?:whole|full|exact|plain)\s+)?|[(\[]\s*)$", re.IGNORECASE),
    re.compile(r"(?<!\bnearest )(?<!\bto the )$", re.IGNORECASE),
    re.compile(r"$"),
)
#: Words that are units only where the clearest request is before them: "in foot", not "the foot of the stairs", "the yard".
_AMBIGUOUS = re.compile(r"foot|inch|yard|mile|\w*met(?:er|re)", re.IGNORECASE)
_PLACE = re.compile(r"\b(?:the|his|her|its|their)\s+$", re.IGNORECASE)
#: What goes with a unit when it is left out: ", in cm", "(in cm)", "Answer in cm."; and "how many cm tall", which is "how tall".
_ANSWER_VERB = (
    r"(?:measured|expressed|stated|given|answer|reply|respond|(?:give|report|state)(?: (?:it|me|(?:the|your) (?:answer|result)))?)"
)
_PHRASE = re.compile(
    rf"\s*[,;:]?\s*[(\[]?\s*(?:\b(?:please )?{_ANSWER_VERB}\s+)?"
    r"(?:\b(?:in|as|into|using|use|units?:?)\s+(?:(?:whole|full|exact|plain)\s+)?|(?<=[(\[])|(?<=, ))$",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(r"\bhow (many )$", re.IGNORECASE)
_EXTENT = re.compile(r"\s+(?:(tall|wide|high|long|deep|far|thick)|apart|away)\b", re.IGNORECASE)
#: A second full stop behind the end of a sentence.
_LEFT_OVER = re.compile(r"([.?!])\s*\.(?=\s|$)")
_SPAN = re.compile(r"\s+(?:between|from|to|that|separating)\b", re.IGNORECASE)


def asked_unit(question: str) -> str:
    """Return the unit in which a question asks for a length: a key of ``LENGTH_UNITS`` or ``FEET_AND_INCHES``; metres by default.

    "How many centimetres", "in feet", "(in mm)", "the distance, inches?" ask for a unit; "within 2 feet" and "the 6-inch pipe" do not.
    """
    return min(_find_requests(question), default=(0, (0, 0), METRE))[2]


def ask_in_metres(question: str) -> str:
    """Return the question with metres in place of the unit that it asks for; others are returned unchanged."""
    if asked_unit(question) == METRE:
        return question
    for _, (start, end), _ in sorted(_find_requests(question), key=lambda request: request[1], reverse=True):
        question = f"{question[:start]}metres{question[end:]}"
    return question


def without_asked_unit(question: str) -> str:
    """Return the question without the unit that it asks for, so that the answer is that of the plain question, which is in metres.

    Where the sentence needs a unit ("How many centimetres separate them?"), it is metres. A question in metres is returned unchanged.
    """
    if asked_unit(question) == METRE:
        return question
    for _, (start, end), _ in sorted(_find_requests(question), key=lambda request: request[1], reverse=True):
        before, after = question[:start], question[end:]
        if (asked := _HOW_MANY.search(before)) and (extent := _EXTENT.match(after)):
            question = f"{before[: asked.start(1)]}{'' if extent[1] else 'far '}{after.lstrip()}"
        elif phrase := _PHRASE.search(before):
            rest = re.sub(r"^\.?\s*[)\]]", "", after).removeprefix("," if phrase[0].lstrip().startswith(",") or not phrase.start() else "")
            question = _LEFT_OVER.sub(r"\1", f"{before[: phrase.start()]}{rest}") if phrase.start() else _capitalised(rest.lstrip(" :"))
        else:
            question = f"{before}metres{after}"
    return question


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _find_requests(question: str) -> list[tuple[int, tuple[int, int], str]]:
    """Return every request for a unit in a plain text: how clear it is, 0 is the clearest, its span and the unit."""
    found = [(0, compound.span(), FEET_AND_INCHES) for compound in _COMPOUND.finditer(question)]
    taken = [(start, end + 1) for _, (start, end), _ in found] + [quantity.span() for quantity in _QUANTITY.finditer(question)]
    for unit in _UNIT.finditer(question):
        before = question[: unit.start()]
        rank = next(rank for rank, request in enumerate(_REQUESTS) if request.search(before))
        is_place = unit.lastgroup in ("ft", "yd") and _PLACE.search(before) and not _SPAN.match(question, unit.end())
        is_no_unit = is_place or _AMBIGUOUS.fullmatch(unit[0])
        if not (rank == 1 and is_no_unit) and not any(start <= unit.start() <= end for start, end in taken):
            found.append((rank, unit.span(), str(unit.lastgroup)))
    return found


def from_metres(metres: float, unit: str) -> tuple[float, str]:
    """Return a length in a unit of ``asked_unit``, with three significant digits, as (number, key of ``LENGTH_UNITS``)."""
    name = _FOOT if unit == FEET_AND_INCHES else unit
    value = float(f"{metres / LENGTH_UNITS[name][0]:.{SIGNIFICANT_DIGITS}g}")
    return (int(value) if value.is_integer() else value), name


def write_length(metres: float, unit: str) -> str:
    """Return a length in a unit of ``asked_unit``, with three significant digits: "169 cm", "5 ft 7 in"."""
    value, name = from_metres(metres, unit)
    if unit != FEET_AND_INCHES:
        return write_quantity(value, name)
    inches = metres / LENGTH_UNITS["in"][0]
    feet, rest = divmod(round(inches) if inches >= 3 * _INCHES_PER_FOOT else round(inches, 1), _INCHES_PER_FOOT)
    return " ".join(part for part in (f"{feet:.0f} ft" if feet else "", f"{rest:.3g} in" if rest or not feet else "") if part)


def write_quantity(value: float, unit: str) -> str:
    """Return a number with its unit, without an exponent: "0.00169 km"."""
    return f"{Decimal(str(value)):f} {unit}"


def in_metres(value: Any, unit: Any) -> Any:
    """Return a number of ``unit`` in metres, without a unit and for what is no number unchanged; None where the unit is none of length.

    unit: a key of ``LENGTH_UNITS``, or any spelling of one ("centimetres").
    """
    if unit is None or unit == METRE or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    names = (name for name, (_, spellings) in LENGTH_UNITS.items() if re.fullmatch(spellings, str(unit).strip().lower()))
    name = unit if unit in LENGTH_UNITS else next(names, None)
    return None if name is None else value * LENGTH_UNITS[name][0]
