"""The template of a question, without its objects: one string for all questions of the same wording."""

from __future__ import annotations

import re

#: Nouns of objects in the warehouse sets, with words that only mark a region, such as "mask"; longer forms first.
_THING = re.compile(
    r"\b(?:buffer (?:region|zone|area|mask)s?|(?:pallet|shelf|transporter) masks?|pallets?|transporters?|shelf|shelves|buffers?|objects?)\b"
)
_REGION = re.compile(r"<mask>(?:\s*<depth>)?|\[?\bregions? ?\[?\d+\]?")
_LISTED = re.compile(r"(?:\bthe |\bthing )*<r>(?:(?:,| and|\s)+(?:the |thing )*<r>)*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SPACE = re.compile(r"\s+")


def question_template(question: str) -> str:
    """Return the question in lower case with regions as ``<r>``, numbers as ``0`` and nouns of objects as ``thing``.

    >>> question_template("Among the pallet <mask>, the pallet <mask>, and the pallet <mask>, which object is leftmost?")
    'among <r>, which thing is leftmost?'
    """
    text = question.lower().replace("<image>", " ")
    text = _REGION.sub("<r>", text)
    text = _NUMBER.sub("0", _THING.sub("thing", text))
    return _SPACE.sub(" ", _LISTED.sub("<r>", text)).strip()
