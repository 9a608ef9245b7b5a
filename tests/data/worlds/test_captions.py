"""Laws of captions."""

from __future__ import annotations

import itertools

import pytest

from smolrgpt.data.worlds.captions import caption
from smolrgpt.schema import SceneGraph

pytestmark = pytest.mark.slow  # many cases, each short


@pytest.mark.parametrize("visible", range(7))
def test_captions_fit_any_number_of_buffers(scenes, visible):
    """Buffers may all be hidden; there may be more than any layout has now."""
    scene = next(scene for scene in scenes if len(scene.of_kind("buffer")) > 1)
    buffers = itertools.islice(itertools.cycle(scene.graph.of_kind("buffer")), visible)
    others = [item for item in scene.graph.objects if item.kind != "buffer"]
    crowd = SceneGraph((*others, *buffers), scene.camera, scene.pose)
    assert caption(crowd).count("buffer region") >= visible
