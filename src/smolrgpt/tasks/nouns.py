"""Names of objects in questions: thousands of nouns with modifiers, and made-up words.

A question marks its objects with regions; what it calls them must change nothing. ``wordings/nouns.json`` has the nouns, none of which
contains a word that asks for something, such as "left" or "wide".
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

_FILE = Path(__file__).parent / "wordings" / "nouns.json"
_LETTERS = "b bl br d dr f fl g gl gr h j k kr l m n p pl pr qu r s sk sl sn st t tr v vl w y z"
_ONSETS = tuple(_LETTERS.split())
_VOWELS = ("a", "e", "i", "o", "u", "oo", "ai", "ee", "ou", "ia")
_CODAS = ("", "", "", "b", "d", "g", "k", "l", "m", "n", "p", "r", "t", "x", "rk", "lp", "nd")
#: Shares of names that are made up, and that have a modifier.
_INVENTED, _MODIFIED = 0.1, 0.3


@dataclass(frozen=True)
class Vocabulary:
    """Nouns in the singular, modifiers that may stand before any of them, and the plurals that no rule makes."""

    nouns: tuple[str, ...]
    modifiers: tuple[str, ...]
    irregular_plurals: dict[str, str]


@functools.cache
def load_vocabulary() -> Vocabulary:
    """Return the nouns and modifiers that questions use."""
    words = json.loads(_FILE.read_text(encoding="utf-8"))
    return Vocabulary(tuple(words["nouns"]), tuple(words["modifiers"]), words["irregular_plurals"])


def plural(noun: str) -> str:
    """Return the plural of a noun, whose last word changes.

    >>> plural("tea box"), plural("bread knife")
    ('tea boxes', 'bread knives')
    """
    start, _, last = noun.rpartition(" ")
    word = load_vocabulary().irregular_plurals.get(last)
    if word is None:
        if last.endswith(("s", "x", "z", "ch", "sh")):
            word = f"{last}es"
        elif last.endswith("y") and last[-2:-1] not in "aeiou":
            word = f"{last[:-1]}ies"
        else:
            word = f"{last}s"
    return f"{start} {word}".lstrip()


def invent_noun(random: Random) -> str:
    """Return a made-up word of two to four syllables."""
    syllables = [random.choice(_ONSETS) + random.choice(_VOWELS) for _ in range(random.randint(2, 4))]
    return "".join(syllables) + random.choice(_CODAS)


def draw_name(random: Random, noun: str | None = None) -> str:
    """Return a name for an object: a noun of the vocabulary or a made-up one, or the given ``noun``, sometimes with a modifier."""
    words = load_vocabulary()
    if noun is None:
        noun = invent_noun(random) if random.random() < _INVENTED else random.choice(words.nouns)
    return f"{random.choice(words.modifiers)} {noun}" if random.random() < _MODIFIED else noun
