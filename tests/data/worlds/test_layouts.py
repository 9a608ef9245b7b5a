"""Laws of the layouts: nothing overlaps, buffers are as stated."""

from __future__ import annotations

import pytest

from smolrgpt.data.worlds import (
    KNOWN_LAYOUTS,
    LAYOUTS,
    RESERVED_LAYOUTS,
    generate_scene,
    random_generator,
    resolve_layouts,
)
from smolrgpt.data.worlds.layouts import make_plan


def test_layout_families():
    assert len(KNOWN_LAYOUTS) >= 6 and len(RESERVED_LAYOUTS) >= 2 and not set(KNOWN_LAYOUTS) & set(RESERVED_LAYOUTS)
    assert resolve_layouts("known") == KNOWN_LAYOUTS and resolve_layouts("rows, ring") == ("rows", "ring")
    with pytest.raises(ValueError, match="nowhere"):
        resolve_layouts("nowhere")
    with pytest.raises(ValueError, match="unknown"):
        generate_scene(0, "nowhere")


def test_nothing_overlaps_and_buffers_are_as_stated():
    for k, name in enumerate(LAYOUTS):
        for j in range(8):
            plan = make_plan(name, random_generator(1, k, j))
            solids = list(plan.solids())
            assert not any(one.overlaps(two) for i, one in enumerate(solids) for two in solids[:i])
            for rect, buffer in zip(plan.pallets, plan.pallet_buffers, strict=True):
                inside = [number for number, outline in enumerate(plan.buffers) if outline.contains(rect.x, rect.y)]
                assert inside == ([] if buffer is None else [buffer])
            assert len(plan.pallets) <= 12 and 1 <= len(plan.buffers) <= 4
