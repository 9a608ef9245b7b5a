"""Laws of replies without a sentence around them: JSON, a number without its unit, and "nothing"."""

from __future__ import annotations

import pytest

from smolrgpt.tasks import TASKS


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("distance", "The answer is 1.75.", 1.75),
        ("distance", "The distance between [Region 0] and [Region 1] is about 3,5", 3.5),
        ("distance", "The answer is region 1", None),
        ("distance", "The answer is 3 pallets", None),
        ("distance", '{"distance": 1.75}', 1.75),
        ("height", '```json\n{"height": 175, "unit": "cm"}\n```', 1.75),
        ("width", '{"width_cm": 60}', 0.6),
        ("distance", '{"answer": "1.7 m", "reason": "they are 3 pallets apart"}', 1.7),
        ("distance", '{"distance": 1.75, "width": 2}', None),
        ("distance", '{"distance": null}', None),
        ("distance", '{"box": [1, 2], "distance": 2}', None),
        ("left_right", '{"answer": "right", "confidence": 0.9}', "right"),
        ("mcq", '{"region": 2}', "2"),
        ("count", '{"count": 3}', 3),
        ("count", "Nothing", 0),
        ("count", "There is nothing in the buffer.", 0),
        ("count", "There are 2 pallets and nothing else.", 2),
    ],
)
def test_a_reply_with_one_meaning_is_read(kind: str, text: str, expected: object) -> None:
    assert TASKS[kind].read("", text) == expected
