"""Statements of free answers about two regions: verdicts ("yes", "not true") and comparisons ("[Region 1] is not taller")."""

from __future__ import annotations

import re

from smolrgpt.tasks.region_text import REGION, name_ordinals, region_index

_POSITIVE = {"yes", "yeah", "yep", "true", "correct", "indeed", "affirmative"}
_VERDICT = re.compile(
    r"\b(not |n't )?(yes|yeah|yep|true|correct|indeed|affirmative|no|nope|false|incorrect|untrue)\b"
    r"(?=\s*(?:$|[,.!:;\"')-]|it\b|that\b|this\b|the\b|\[))",
    re.IGNORECASE,
)
#: What a region is compared with, which is not what the sentence is about.
_REFERENCE = re.compile(rf"\b(?:compared (?:to|with)|(?:between|of) {REGION.pattern} (?:and|or)) {REGION.pattern},?", re.IGNORECASE)
_REFERENCE_FIRST = re.compile(
    r"^[^<]*\b(?:above|below|under|over|behind|of|front|than|to|with|by) (?:\w+ ){0,6}<mask>[^<]*\b(?:is|are|where|does|do)\b[^<]*<mask>"
)
_NEGATION = re.compile(r"\bnot\b|n't\b|\bcannot\b|\bnever\b|\bneither\b|\bno\b")


def stated_verdict(sentence: str) -> bool | None:
    """Return whether a sentence says "yes" (True) or "no", in these or similar words; None where it says neither."""
    found = _VERDICT.search(sentence)
    return None if found is None else (found[2].lower() in _POSITIVE) != bool(found[1])


def asked_subject(words: str) -> int:
    """Return which of two regions a question of ``recognition.plain_words`` is about: 1 where the first one is the reference."""
    return 1 if _REFERENCE_FIRST.match(words) else 0


def is_negated(text: str) -> bool:
    """Return whether a text has a negation."""
    return _NEGATION.search(text.lower()) is not None


def stated_comparison(sentence: str, relation: str, opposite: str) -> tuple[int | None, bool] | None:
    """Return the region that a sentence compares, and whether it has the relation (True) or the opposite; None without a comparison.

    "[Region 1] isn't taller" is (1, False). The region is None where the sentence names none ("it is taller").

    Args:
        sentence: a sentence of an answer.
        relation: a regular expression of the words for the relation.
        opposite: the same for its opposite.
    """
    text = _REFERENCE.sub(lambda match: " " * len(match[0]), name_ordinals(sentence)).lower().rstrip(" .!")
    for found in re.finditer(rf"\b(?:(?P<relation>{relation})|(?:{opposite}))(?!\w)", REGION.sub(_same_length_tag, text)):
        before = [match for match in REGION.finditer(text) if match.end() <= found.start()]
        after = next(REGION.finditer(text, found.end()), None)
        has_relation = found["relation"] is not None
        if before:
            span = text[before[-1].end() : found.start()]
            subject: int | None = region_index(before[-1])
        elif after and re.search(r"\b(?:is|are)\b|:", text[found.end() : after.start()]):
            span, subject = text[: found.start()] + text[found.end() : after.start()], region_index(after)
        else:
            span, subject = text[: found.start()], None
        return subject, has_relation != is_negated(span)
    return None


def _same_length_tag(match: re.Match[str]) -> str:
    return "<mask>".ljust(len(match[0]))[: len(match[0])]
