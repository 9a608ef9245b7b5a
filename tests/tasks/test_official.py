"""Laws of the official question forms: all of the data set's templates, each one once."""

from __future__ import annotations

import collections
import string

from smolrgpt.tasks.official import LIST_SLOTS, MASK_SLOTS, OBJECT_SLOTS, official_forms


def test_there_are_as_many_templates_as_in_the_data_set():
    """Counted in the data set's training split: 412 templates of four categories."""
    templates = {(form.category, form.template) for form in official_forms()}
    assert len(templates) == len(official_forms())
    counts = collections.Counter(category for category, _ in templates)
    assert counts == {"left_right": 27, "count": 84, "mcq": 73, "distance": 228}


def test_frames_hold_known_slots_only():
    for form in official_forms():
        slots = [name for _, name, _, _ in string.Formatter().parse(form.frame) if name]
        assert slots and set(slots) <= {*OBJECT_SLOTS, *LIST_SLOTS, *MASK_SLOTS}, form.frame
        assert all(words in form.frame for words in form.sides.values())
