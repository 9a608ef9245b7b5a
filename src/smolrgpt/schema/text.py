"""Text as users type and paste it, in one form, so that what looks the same is the same to the model."""

from __future__ import annotations

import re
import unicodedata

#: Typographic characters -> the ASCII ones that all training texts have. Full-width forms (U+FF01 to U+FF5E) are ASCII + 0xFEE0.
_ASCII_FORMS = str.maketrans(
    {full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)}
    | dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bc\u2032"), "'")
    | dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033"), '"')
    | dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212"), "-")
    | dict.fromkeys(map(ord, "\u27e8\u2329\u3008\u2039"), "<")
    | dict.fromkeys(map(ord, "\u27e9\u232a\u3009\u203a"), ">")
    | dict.fromkeys(map(ord, "\u3010\u3014\u27e6"), "[")
    | dict.fromkeys(map(ord, "\u3011\u3015\u27e7"), "]")
    | dict.fromkeys(map(ord, "\u2800\u3164\u115f\u1160"), " ")  # blank letters
)
_SPACE_BEFORE_MARK = re.compile(r" (?=[?!,;](?: |$))")


def plain_text(text: str) -> str:
    """Return a text in the form in which questions reach the model; a text that has this form already is returned unchanged.

    White space of any kind is a single space, and none stands at the ends or before a punctuation mark; invisible characters (zero-width
    ones, byte-order marks, soft hyphens, private use) are left out; full-width forms and typographic quotation marks, hyphens and brackets
    are ASCII; letters are composed (NFC, which changes no character's meaning, as the "2" of "m²" under NFKC).
    """
    if not text.isascii():
        text = "".join(c for c in text.translate(_ASCII_FORMS) if unicodedata.category(c) not in ("Cf", "Co"))
        text = unicodedata.normalize("NFC", text)
    return _SPACE_BEFORE_MARK.sub("", " ".join(text.split()))
