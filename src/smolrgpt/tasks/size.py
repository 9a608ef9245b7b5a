"""How wide, how tall, how far up: lengths of one object, and the vertical distance of two. The warehouse score has none of them."""

from __future__ import annotations

from smolrgpt.tasks.base import Cue, Rank, ReplySchema
from smolrgpt.tasks.distance import LengthTask

WIDTH = LengthTask(
    name="width",
    title="width",
    cues=(
        Cue(Rank.INTERROGATIVE, r"how (?:wide|broad) (?:is|are)\b"),
        Cue(Rank.DIMENSION, r"(?:how|met(?:er|re)s) (?:wide|broad|long)\b|(?:wid|bread)th\b"),
        Cue(Rank.DIMENSION, r"(?:side|left) (?:side )?to (?:its )?(?:side|right)\b"),
    ),
    reply=ReplySchema("metres", float, "The width in metres."),
    length_word=" width",
)
HEIGHT = LengthTask(
    name="height",
    title="height",
    cues=(
        Cue(Rank.INTERROGATIVE, r"how (?:tall|high) (?:is|are)\b"),
        Cue(Rank.DIMENSION, r"(?:how|met(?:er|re)s) (?:tall|high)\b|height\b|vertical size\b"),
        Cue(Rank.DIMENSION, r"to (?:its |the )?(?:top|upper end)\b"),
    ),
    reply=ReplySchema("metres", float, "The height in metres."),
    length_word=" height",
)
VERTICAL = LengthTask(
    name="vertical",
    title="vertical distance",
    cues=(
        Cue(Rank.EXPLICIT + 5, r"vertical(?:ly)?\b(?! size)|how much (?:higher|lower)\b|higher or lower\b|up (?:and |or )?down\b"),
        Cue(Rank.EXPLICIT + 5, r"(?:height|elevation) difference\b|differ(?:s|ence)? (?:\w+ ){0,2}in (?:height|elevation)\b"),
        Cue(Rank.EXPLICIT + 5, r"(?:how many |in )?(?:centi|milli)?met(?:er|re)s (?:higher|lower|further (?:up|down))\b"),
    ),
    reply=ReplySchema("metres", float, "The vertical distance in metres."),
    length_word=" up",
)
