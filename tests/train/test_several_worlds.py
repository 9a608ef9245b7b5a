"""A run on several sets of scenes: the names of its sources, its validation, and the names of its regions."""

from __future__ import annotations

import dataclasses
import re
import shutil

import pytest
import torch
from tiny_run import SMALL, TINY, losses, tiny_run

from smolrgpt.data.collate import Collator
from smolrgpt.data.loading import group_by_image
from smolrgpt.data.perturb import jitter_masks
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.data.worlds import write_dataset
from smolrgpt.tasks import task_named
from smolrgpt.train import trainer
from smolrgpt.train.answers import restyle
from smolrgpt.train.build import build_model
from smolrgpt.train.config import ModelSpec, SyntheticData, WorldsData
from smolrgpt.train.sources import SET, VALIDATION, load_sources
from smolrgpt.train.validation import score_validation


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> WorldsData:
    """Two sets of three small scenes in each split; the seeds are equal, so that the ids of their questions are."""
    root, sets = tmp_path_factory.mktemp("worlds"), {}
    for name, world in (("home", "warehouse"), ("away", "tabletop,yard")):
        sets[name] = SyntheticData(root / name, 3, 3, seed=7, world=world, size=(96, 54), questions_per_scene=8)
        for split, seed in (("train", 7), ("val", 1_000_007)):
            write_dataset(root / name, split, 3, seed, "known", questions_per_scene=8, world=world, **SMALL)
    return WorldsData({name: dataclasses.replace(data, validation=("val", "val_plain")) for name, data in sets.items()})


def test_sources_of_several_sets_are_named_after_both(worlds, warehouse, tmp_path) -> None:
    mixture = {"home:plain": 1.0, "away:train": 1.0, "away:plain": 2.0}
    run = dataclasses.replace(tiny_run(warehouse, tmp_path, {"mixture": mixture}), data=worlds, validation_questions=20)
    sources = load_sources(run)
    assert set(sources) == {*mixture, VALIDATION}
    assert all(worlds.sets[name.split(":")[0]].root in sample.image.parents for name in mixture for sample in sources[name])
    validation = sources[VALIDATION]
    assert len({sample.id for sample in validation}) == len(validation) == 20
    assert [sum(sample.metadata[SET] == name for sample in validation) for name in worlds.sets] == [10, 10]
    assert not any(sample.wording == "reserved" for sample in validation)


def test_sets_are_in_folders_of_their_own(worlds) -> None:
    with pytest.raises(ValueError, match="each in a folder of its own"):
        WorldsData({"a": worlds.sets["home"], "b": worlds.sets["home"]})


def test_a_validation_counts_every_kind_and_set(worlds) -> None:
    """Perfect answers give 100, missing ones 0, and the mean weighs sets and kinds alike however many questions they have."""
    samples = [
        dataclasses.replace(sample, id=f"{name}:{sample.id}", metadata={SET: name})
        for name, data in worlds.sets.items()
        for sample in (*read_warehouse(data.root, "val"), *read_warehouse(data.root, "val_extra", folder="val"))
    ]
    answers = [{"id": sample.id, "normalized_answer": sample.normalized_answer} for sample in samples]
    perfect, short = (
        score_validation(samples, answers),
        [s for s in samples if task_named(s.category).parse_or_none(s.normalized_answer) is not None],
    )
    assert perfect.s1 == 100 and perfect.num_questions == len(short) and set(perfect.by_set) == set(worlds.sets)
    assert {"left_right", "width"} <= set(perfect.accuracy)
    assert score_validation(samples, []).s1 == 0
    half = score_validation(samples, [row for row in answers if row["id"].startswith("away")])
    assert half.s1 == pytest.approx(50) and "away" in half.table()
    with pytest.raises(ValueError, match="none of the 0 validation questions"):
        score_validation([], [])


def test_a_share_of_the_images_has_inexact_masks(warehouse) -> None:
    samples = read_warehouse(warehouse, "train") + read_warehouse(warehouse, "train_plain", folder="train")
    changed = {fraction: jitter_masks(samples, fraction) for fraction in (0.0, 0.5, 1.0)}
    assert changed[0.0] == samples and all(new.image_key != old.image_key for new, old in zip(changed[1.0], samples, strict=True))
    for sample, half, whole in zip(samples, changed[0.5], changed[1.0], strict=True):
        assert half in (sample, whole)
    assert all(len({s.image_key for s in changed[0.5] if s.image == image}) == 1 for image in {s.image for s in samples})


# --------------------------------------------------------------------------------------------------------------- names of regions
@pytest.fixture(scope="module")
def named(warehouse):
    """A tiny model whose regions have names, with its processor, and samples in the style of its answers."""
    samples = restyle(read_warehouse(warehouse, "train") + read_warehouse(warehouse, "train_warmup", folder="train"), "steps")
    spec = ModelSpec(config={**TINY, "region_fusion": "name", "pair_geometry": True}, vocab_size=400)
    return *build_model(spec, "eager", samples), samples


def test_names_of_answers_follow_those_of_questions(named) -> None:
    """With names counted from the first one, question and answer are the same text, and the field names the same region."""
    _, processor, samples = named
    collator, shifted = Collator(processor), Collator(processor, region_offset_fraction=1.0)
    for sample in samples:
        first = shifted.first_region(sample)
        assert 0 < first <= processor.num_region_names - len(sample.regions)
        texts = [processor.tokenizer.decode(by([[sample]])["input_ids"][0]) for by in (collator, shifted)]
        back = re.sub(r"\[Region (\d+)\]", lambda match, first=first: f"[Region {int(match[1]) - first}]", texts[1])
        if task_named(sample.category).names_region:
            index = int(sample.normalized_answer)
            assert f": {index + first}<|im_end|>" in back
            back = back.replace(f": {index + first}<|im_end|>", f": {index}<|im_end|>")
        assert back == texts[0]


def test_a_model_that_does_not_tell_names_apart_has_the_same_loss(named) -> None:
    model, processor, samples = named
    groups = list(group_by_image([s for s in samples if not task_named(s.category).names_region]).values())
    embeddings = model.get_input_embeddings().weight
    with torch.no_grad():
        embeddings[model.config.region_name_token_ids] = embeddings[model.config.region_name_token_ids[0]].clone()
        plain, shifted = (model.eval()(**Collator(processor, region_offset_fraction=share)(groups)).loss for share in (0.0, 1.0))
    assert torch.allclose(plain, shifted, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- compiled layers
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_layers_learn_the_same(warehouse, tmp_path, fast_training) -> None:
    """Also across a validation, which runs the same layers as they are."""
    found = []
    for compiled in (False, True):
        run = tiny_run(warehouse, tmp_path / str(compiled), {"max_steps": 4}, monitor_health=False, compile_layers=compiled)
        trainer.run(run)
        found.append([loss for _, loss in losses(run.out)])
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_without_a_compiler_layers_stay_as_they_are(named, monkeypatch, caplog) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    trainer.compile_layers(named[0])
    assert "no C++ compiler" in caplog.text and named[0].model.language_model.layers[0]._compiled_call_impl is None
