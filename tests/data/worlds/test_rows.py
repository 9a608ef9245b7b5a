"""Laws of samples in memory."""

from __future__ import annotations

from smolrgpt.data.worlds import (
    generate_scene,
    random_generator,
    scene_samples,
)


def test_samples_share_picture_and_carry_metric_depth():
    scene = generate_scene(3)
    samples = scene_samples(scene, 8, random_generator(4))
    assert len(samples) == 8 and len({sample.image_key for sample in samples}) == 1 and len({sample.id for sample in samples}) == 8
    assert samples[0].depth.kind == "metric" and samples[0].camera == scene.camera
