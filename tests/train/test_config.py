"""A run is data: contradictions raise when it is made, overrides reach every field, unknown names are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.train.config import ModelSpec, Run, Stage, SyntheticData, apply_overrides
from smolrgpt.train.recipes import RECIPES, nano, nano_blind, nano_published, paper


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_serialises(name):
    config = RECIPES[name]()
    assert config.stages and config.to_json()


def test_override_reaches_nested_fields_and_tuples():
    config = apply_overrides(
        nano(), ["seed=3", "data.num_scenes=10", "stages.2.max_steps=5", "out=elsewhere", "model.config.pixel_shuffle_factor=2"]
    )
    assert (config.seed, config.data.num_scenes, config.stages[2].max_steps) == (3, 10, 5)
    assert config.out == Path("elsewhere") and config.model.config["pixel_shuffle_factor"] == 2
    assert nano().seed == 0, "an override never touches the recipe"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("sed=3", "no field 'sed'.*seed"),
        ("data.scenes=1", "no field 'scenes'.*num_scenes"),
        ("stages.9.max_steps=1", "no field '9'; known here: 0 to 6"),
        ("seed", "not of the form field=value"),
        ("seed.deeper=1", "no field 'deeper'; known here: nothing"),
    ],
)
def test_override_refuses_what_does_not_exist(bad, message):
    with pytest.raises(ValueError, match=message):
        apply_overrides(nano(), [bad])


def test_override_keeps_the_types_of_fields():
    config = apply_overrides(nano(), ["feature_cache=features", 'stages.0.rates=[[".", 0.1]]', 'model.backbones=["a", "b"]'])
    assert config.feature_cache == Path("features")
    assert config.stages[0].rates == ((".", 0.1),) and config.model.backbones == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rates": ((".", None),)}, r"rates \(\('.', None\),\) freeze everything"),
        ({"rates": ((".", -1.0),)}, r"-1.0 for '.'"),
        ({"mixture": {}}, r"mixture {} must name"),
        ({"mixture": {"a": 0.0}}, r"{'a': 0.0}"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"temperature": 0.5}, "temperature is 0.5"),
        ({"balance": ("colour",), "balance_limit": 2.0}, r"'colour',\) and balance_limit 2.0"),
        ({"early_stopping_patience": 2}, "early_stopping_patience is 2 and eval_every is None"),
    ],
)
def test_contradictions_in_a_stage_raise_with_the_values(fields, message):
    with pytest.raises(ValueError, match=message):
        Stage(**{"name": "s", "rates": ((".", 1e-3),), "mixture": {"a": 1.0}, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": Path("a"), "backbones": ("b", "c")}, r"path=a and backbones=\('b', 'c'\)"),
        ({"keep_pattern": "tower"}, "keep_pattern='tower' and path=None"),
    ],
)
def test_contradictions_in_a_model_raise_with_the_values(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec(**fields)


@pytest.mark.parametrize("name", RECIPES)
def test_a_saved_run_is_read_back(name):
    run = RECIPES[name]()
    assert Run.from_json(run.to_json()) == run


def test_a_run_saved_with_old_keys_is_read():
    text = nano().to_json().replace("monitor_health", "signatures").replace("keep_pattern", "keep").replace("_mask_jitter", "_rough")
    assert Run.from_json(text) == nano()


def test_the_run_of_the_bundled_checkpoint_is_read():
    saved = (bundled_checkpoint("nano") / "run.json").read_text()
    assert Run.from_json(saved).stages[2:4] == nano().stages[2:4]


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"name": "x"}'])
def test_other_json_is_not_a_run(text):
    with pytest.raises(ValueError, match="not the settings of a run"):
        Run.from_json(text)


@pytest.mark.parametrize("shares", [{"no_depth_fraction": -0.1}, {"relative_depth_fraction": 0.6, "no_camera_fraction": 0.6}])
def test_shares_of_images_are_shares(shares):
    with pytest.raises(ValueError, match="at most 1 in all"):
        SyntheticData(root=Path("data"), **shares)


def test_variants_differ_from_nano_only_in_the_model():
    base = nano()
    for variant in (nano_published(), nano_blind()):
        assert variant.stages == base.stages and variant.data == base.data and variant.seed == base.seed
        assert variant.out != base.out and variant.model != base.model


@pytest.mark.parametrize("name", RECIPES)
def test_an_output_folder_that_is_given_is_used(name):
    assert RECIPES[name](out=Path("runs/a-nano-smollm2-135m")).out == Path("runs/a-nano-smollm2-135m")
    assert len({str(recipe(out=None).out) for recipe in RECIPES.values()}) == len(RECIPES)


def test_paper_stage_can_be_chosen_and_a_wrong_name_is_refused():
    assert [s.name for s in paper(stage="warm-up").stages] == ["warm-up"]
    with pytest.raises(ValueError, match="fine-tune"):
        paper(stage="warmup")
