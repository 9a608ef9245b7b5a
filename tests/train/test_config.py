"""A run is data: contradictions raise when it is made, overrides reach every field, unknown names are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolrgpt.train.config import Stage, SyntheticData, override
from smolrgpt.train.recipes import RECIPES, nano, nano_blind, nano_published, paper


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_serialises(name):
    config = RECIPES[name]()
    assert config.stages and config.to_json()


def test_override_reaches_nested_fields_and_tuples():
    config = override(
        nano(), ["seed=3", "data.num_scenes=10", "stages.2.max_steps=5", "out=elsewhere", "model.config.pixel_shuffle_factor=2"]
    )
    assert (config.seed, config.data.num_scenes, config.stages[2].max_steps) == (3, 10, 5)
    assert config.out == Path("elsewhere") and config.model.config["pixel_shuffle_factor"] == 2
    assert nano().seed == 0, "an override never touches the recipe"


@pytest.mark.parametrize("bad", ["sed=3", "data.scenes=1", "stages.9.max_steps=1", "seed", "seed.deeper=1"])
def test_override_refuses_what_does_not_exist(bad):
    with pytest.raises(ValueError):
        override(nano(), [bad])


@pytest.mark.parametrize(
    "fields",
    [
        {"rates": ((".", None),)},
        {"rates": ((".", -1.0),)},
        {"mixture": {}},
        {"mixture": {"a": 0.0}},
        {"max_steps": 0},
        {"early_stopping_patience": 2},
    ],
)
def test_contradictions_raise(fields):
    with pytest.raises(ValueError):
        Stage(**{"name": "s", "rates": ((".", 1e-3),), "mixture": {"a": 1.0}, **fields})


@pytest.mark.parametrize("shares", [{"no_depth_fraction": -0.1}, {"relative_depth_fraction": 0.6, "no_camera_fraction": 0.6}])
def test_shares_of_images_are_shares(shares):
    with pytest.raises(ValueError, match="shares"):
        SyntheticData(root=Path("data"), **shares)


def test_variants_differ_from_nano_only_in_the_model():
    base = nano()
    for variant in (nano_published(), nano_blind()):
        assert variant.stages == base.stages and variant.data == base.data and variant.seed == base.seed
        assert variant.out != base.out and variant.model != base.model


@pytest.mark.parametrize("name", RECIPES)
def test_a_folder_that_was_named_is_the_one(name):
    assert RECIPES[name](out=Path("runs/a-nano-smollm2-135m")).out == Path("runs/a-nano-smollm2-135m")
    assert len({str(recipe(out=None).out) for recipe in RECIPES.values()}) == len(RECIPES)


def test_paper_stage_can_be_chosen_and_a_wrong_name_is_refused():
    assert [s.name for s in paper(stage="warm-up").stages] == ["warm-up"]
    with pytest.raises(ValueError, match="fine-tune"):
        paper(stage="warmup")
