"""Questions in everyday language: a grammar of frames, names of objects, contexts, ways of typing and typos.

A model trained only on the official sentences answers those alone: of two marked regions, the official questions about their distance were
right in 98 of 100 and "How far is <mask> from <mask>?" in 2. ``wordings/<family>.json`` has the frames of every kind, ``nouns.json`` the
names and ``contexts.json`` what people say before and after a question. Reserved frames and contexts are never trained on, and most of
them were written without knowledge of the others. Nothing but the slots of a frame changes what is asked.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from string import Formatter
from typing import cast, get_args

import numpy as np

from smolrgpt.schema import REGION_PLACEHOLDER, SceneGraph, SceneObject, Wording
from smolrgpt.tasks.nouns import draw_name, load_vocabulary, plural
from smolrgpt.tasks.question import Question, capitalized
from smolrgpt.tasks.region_text import LENGTH_UNITS, NUMBER_WORDS

WORDINGS: tuple[Wording, ...] = get_args(Wording)
#: Draws one question about a scene in plain words of a wording, or None where the drawn facts give no clear question.
PlainMaker = Callable[[SceneGraph, np.random.Generator, Wording], Question | None]
#: Regions that a question lists at most.
MAX_LISTED = 8
#: What fills a slot of a frame: an object, a list of objects, a length in metres, or words.
Slot = SceneObject | Sequence[SceneObject] | float | str

_FOLDER = Path(__file__).parent / "wordings"
_MASK = REGION_PLACEHOLDER
#: How a question mentions an object by name, and without one.
_MENTIONS = (
    ("the {n} {m}",) * 8 + ("{n} {m}",) * 3 + ("that {n} {m}", "my {n} {m}", "the {n} at {m}", "{m} (the {n})", "the {n} marked {m}")
)
_BARE_MENTIONS = (
    *((_MASK,) * 3),
    *(f"{words} {_MASK}" for words in ("the object", "object", "the thing", "region", "the region", "item", "the item", "the one at")),
)
_LIST_JOINS = ((", ", ", "), (", ", " and "), (", ", " and "), (", ", " or "), (", ", ", and "))
#: Shares of questions that name no object, that name all by their class, and of names that are the object's class.
_BARE, _BY_CLASS, _TRUE_NAME = 0.4, 0.1, 0.5
#: Shares of questions with a context before and after, in lower case, as dictated (and no punctuation), without a final mark or articles.
_BEFORE, _AFTER, _LOWER, _DICTATED, _UNENDED, _WITHOUT_ARTICLES = 0.15, 0.08, 0.1, 0.06, 0.1, 0.04
#: Shares of questions with one typo at least, and with two.
_TYPO, _SECOND_TYPO = 0.12, 0.03
_ARTICLE = re.compile(r"\b(?:the|an?) (?=\w)")
_PUNCTUATION = re.compile(r"[?!:;()]|[.,](?!\d)")
_WORD = re.compile(r"<[^<>]*>|[^\W\d_]+")
_UNIT_WORD = re.compile("|".join(spellings for _, spellings in LENGTH_UNITS.values()) + "|half|quarter")
_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {key: row[max(0, k - 1) : k] + row[k + 1 : k + 2] for row in _KEY_ROWS for k, key in enumerate(row)}


@functools.cache
def load_wordings(family: str) -> dict[str, dict[Wording, list[str]]]:
    """Return the frames of a family of kinds: what is asked -> wording -> frames.

    The slots of a frame: objects {a}, {b} and {c} or a {list} of them, a container {b}, a {length}, and words such as a {side} or {more}.
    """
    forms = json.loads((_FOLDER / f"{family}.json").read_text(encoding="utf-8"))
    return cast("dict[str, dict[Wording, list[str]]]", forms)


def ask_in_words(
    family: str, asked: str, slots: Mapping[str, Slot], rng: np.random.Generator, wording: Wording = "known"
) -> tuple[str, list[SceneObject]]:
    """Return a question that a frame of the family asks in a wording, and its objects in the order of mention.

    A frame is drawn among those whose slots are all given; a frame says the same in fewer words where more are given.
    """
    frames = _frames_with(family, asked, wording, frozenset(slots))
    return realise(frames[int(rng.integers(len(frames)))], slots, rng, wording)


def realise(form: str, slots: Mapping[str, Slot], rng: np.random.Generator, wording: Wording = "known") -> tuple[str, list[SceneObject]]:
    """Return the question that a frame asks about what fills its slots, and the objects in the order of mention.

    Objects get names, half of them none of their class; a context, a way of typing and at most two typos are drawn as well.
    """
    random = Random(int(rng.integers(1 << 62)))
    parts, objects = _parse(form), [item for _, name in _parse(form) for item in _objects_of(slots.get(name or ""))]
    names = _draw_names(objects, random)
    articles = random.random() >= _WITHOUT_ARTICLES
    words: list[str] = []
    for literal, slot in parts:
        words.append(literal if articles else _ARTICLE.sub("", literal))
        if slot is not None:
            words.append(_fill(slots[slot], names, random))
    return _vary_typing("".join(words), random, wording), objects


@functools.cache
def _parse(form: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((literal, slot) for literal, slot, _, _ in Formatter().parse(form))


@functools.cache
def _frames_with(family: str, asked: str, wording: Wording, slots: frozenset[str]) -> tuple[str, ...]:
    frames = load_wordings(family)[asked][wording]
    return tuple(frame for frame in frames if {slot for _, slot in _parse(frame) if slot} <= slots)


def _objects_of(value: Slot | None) -> Sequence[SceneObject]:
    if isinstance(value, SceneObject):
        return (value,)
    return () if value is None or isinstance(value, str | float | int) else value


# ------------------------------------------------------------------------------------------------------------------------- mentions
def _draw_names(objects: Sequence[SceneObject], random: Random) -> dict[int, str] | None:
    """Return a name per object by its ``id``, all different except where all have that of their class; None for a question without."""
    chance = random.random()
    if chance < _BARE:
        return None
    if chance < _BARE + _BY_CLASS:
        return {id(item): item.name for item in objects}
    names: dict[int, str] = {}
    for item in objects:
        name = draw_name(random, item.name if random.random() < _TRUE_NAME else None)
        while name in names.values():
            name = draw_name(random)
        names[id(item)] = name
    return names


def _fill(value: Slot, names: Mapping[int, str] | None, random: Random) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, SceneObject):
        return _mention(value, names, random)
    return write_given(value, random) if isinstance(value, float | int) else _mention_all(value, names, random)


def _mention(item: SceneObject, names: Mapping[int, str] | None, random: Random) -> str:
    if names is None:
        return random.choice(_BARE_MENTIONS)
    return random.choice(_MENTIONS).format(n=names[id(item)], m=_MASK)


def _mention_all(objects: Sequence[SceneObject], names: Mapping[int, str] | None, random: Random) -> str:
    """Return a list of several objects: a mention each, or the masks alone, sometimes after one noun for all."""
    *commas, last = random.choice(_LIST_JOINS)
    comma = commas[0]
    if names is None or random.random() < 0.3:
        mentions = [_MASK] * len(objects)
        if random.random() < 0.3:
            comma = last = " "
        noun = random.choice(("", "", "", "the objects ", "objects ", "the things ", "items "))
        if names is not None:
            same = objects[0].name if len({item.name for item in objects}) == 1 else random.choice(load_vocabulary().nouns)
            noun = f"{random.choice(('the ', '', 'these '))}{plural(same)} "
    else:
        form = random.choice(("the {n} {m}", "the {n} {m}", "{n} {m}", "the {n} at {m}"))
        mentions, noun = [form.format(n=names[id(item)], m=_MASK) for item in objects], ""
    return noun + comma.join(mentions[:-1]) + (last if len(mentions) > 1 else "") + mentions[-1]


def write_given(metres: float, random: Random) -> str:
    """Return a length (> 0) in metres as people write it, in one of several units, right within half a percent."""
    unit, spellings = random.choice(_GIVEN_UNITS)
    value = float(f"{metres / LENGTH_UNITS[unit][0]:.3g}")
    if not 0.1 <= value < 5000:
        unit, spellings, value = "m", _GIVEN_UNITS[0][1], float(f"{metres:.3g}")
    number = f"{value:.6f}".rstrip("0").rstrip(".")
    if unit == "m" and random.random() < 0.1:
        number = number.replace(".", ",")
    return number + random.choice(spellings)


_METRES = (" m", " metres", " meters", "m", " m")
_GIVEN_UNITS = (
    *((("m", _METRES),) * 4),
    *((("cm", (" cm", "cm", " centimetres", " centimeters")),) * 3),
    ("mm", (" mm", " millimetres", "mm")),
    ("ft", (" feet", " ft")),
    ("in", (" inches",)),
)


# --------------------------------------------------------------------------------------------------------------------------- typing
@functools.cache
def _contexts() -> dict[str, dict[Wording, list[str]]]:
    return load_wordings("contexts")


def _vary_typing(text: str, random: Random, wording: Wording) -> str:
    """Vary a question at random as people type or dictate it: contexts, capitals, punctuation and typos."""
    text = capitalized(text)
    if random.random() < _BEFORE:
        context = random.choice(_contexts()["before"][wording])
        text = context + (text if context.rstrip()[-1] in ".!?:" else text[0].lower() + text[1:])
    if random.random() < _AFTER:
        text = text + ("" if text[-1] in ".?!" else ".") + random.choice(_contexts()["after"][wording])
    chance = random.random()
    if chance < _LOWER + _DICTATED:
        text = text.lower()
    if chance < _DICTATED:
        text = " ".join(_PUNCTUATION.sub(" ", text).split())
    elif chance > 1 - _UNENDED:
        text = text.rstrip("?.!")
    chance = random.random()
    return text if chance > _TYPO else add_typos(text, random, 1 + (chance < _SECOND_TYPO))


def add_typos(text: str, random: Random, count: int) -> str:
    """Misspell up to ``count`` words, by letters swapped, dropped, doubled or hit beside; regions, numbers and units stay as they are."""
    words = [
        found
        for found in _WORD.finditer(text)
        if found[0][0] != "<" and len(found[0]) > 3 and not _is_quantity(found[0].lower()) and text[max(0, found.start() - 1)] != "'"
    ]
    for found in sorted(random.sample(words, min(count, len(words))), key=re.Match.start, reverse=True):
        text = text[: found.start()] + _misspell(found[0], random) + text[found.end() :]
    return text


def _is_quantity(word: str) -> bool:
    return word in NUMBER_WORDS or _UNIT_WORD.fullmatch(word) is not None


def _misspell(word: str, random: Random) -> str:
    k = random.randrange(1, len(word) - 1)
    before, letter, after = word[:k], word[k], word[k + 1 :]
    return random.choice(
        (
            f"{before}{after[0]}{letter}{after[1:]}",
            f"{before}{after}",
            f"{before}{letter}{letter}{after}",
            f"{before}{random.choice(_NEIGHBOURS.get(letter.lower()) or letter)}{after}",
        )
    )
