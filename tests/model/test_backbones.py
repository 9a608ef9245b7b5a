"""Pretrained parts arrive whole: same features, same language, and what does not fit is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM, SiglipConfig, SiglipModel

from smolrgpt.inference.predictor import Predictor
from smolrgpt.model import SmolRGPTForConditionalGeneration, SmolRGPTImageProcessor, SmolRGPTProcessor
from smolrgpt.model.backbones import append_rows
from smolrgpt.train.tokenizer import train_tokenizer

pytestmark = pytest.mark.slow  # many cases, each short

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
FIELDS = {"refiner_stages": 1, "image_token_id": 50, "region_token_ids": {"rgb": 51, "depth": 52}, "text_config": {"vocab_size": 53}}


def _siglip(folder: Path) -> torch.nn.Module:
    config = SiglipConfig(
        vision_config={**SMALL, "intermediate_size": 32, "image_size": 32, "patch_size": 8},
        text_config={**SMALL, "intermediate_size": 32, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1},
    )
    model = SiglipModel(config)
    model.save_pretrained(folder)
    return model.vision_model


def _dinov2(folder: Path) -> torch.nn.Module:
    model = Dinov2Model(Dinov2Config(**SMALL, image_size=56, patch_size=14))
    model.save_pretrained(folder)
    return model


TOWERS = {"siglip": (_siglip, 0, 48), "dinov2": (_dinov2, 1, 84)}  # how it is made, its class tokens, another image size


@pytest.fixture(params=TOWERS)
def vision(request, tmp_path):
    make, class_tokens, other_size = TOWERS[request.param]
    torch.manual_seed(0)
    return make(tmp_path / "vision").eval(), class_tokens, other_size


def _llama(folder: Path, **changes) -> LlamaForCausalLM:
    fields = {"intermediate_size": 32, "vocab_size": 50, "num_key_value_heads": 1, "tie_word_embeddings": True, **changes}
    config = LlamaConfig(**SMALL, **fields)
    torch.manual_seed(1)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


def _join(folder: Path, **config) -> SmolRGPTForConditionalGeneration:
    return SmolRGPTForConditionalGeneration.from_backbones(str(folder / "vision"), str(folder / "text"), **{**FIELDS, **config}).eval()


def test_the_tower_sees_and_the_language_model_speaks_as_before(vision, tmp_path):
    tower, class_tokens, _ = vision
    language = _llama(tmp_path / "text")
    model = _join(tmp_path)
    picture = torch.randn(2, 3, model.config.vision_config.image_size, model.config.vision_config.image_size)
    with torch.no_grad():
        expected = tower(picture).last_hidden_state[:, class_tokens:]
        torch.testing.assert_close(model.model.encode_patches(picture), expected)
        assert expected.shape[1] == model.config.patches_per_side**2
        ids = torch.arange(12).view(1, 12)
        torch.testing.assert_close(model(input_ids=ids).logits[..., :50], language(input_ids=ids).logits)
    assert model.lm_head.weight is model.get_input_embeddings().weight and len(model.lm_head.weight) == 53


def test_another_image_size_is_what_the_tower_makes_of_it(vision, tmp_path):
    tower, class_tokens, size = vision
    _llama(tmp_path / "text")
    model = _join(tmp_path, vision_config={"image_size": size})
    picture = torch.randn(1, 3, size, size)
    options = {} if class_tokens else {"interpolate_pos_encoding": True}  # Dinov2 always does
    with torch.no_grad():
        expected = tower(picture, **options).last_hidden_state[:, class_tokens:]
        torch.testing.assert_close(model.model.encode_patches(picture), expected)


def test_an_untied_head_is_kept_and_the_model_survives_saving(tmp_path):
    _siglip(tmp_path / "vision")
    language = _llama(tmp_path / "text", tie_word_embeddings=False)
    model = _join(tmp_path)
    assert torch.equal(model.lm_head.weight[:50], language.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    model.save_pretrained(tmp_path / "saved")
    again = SmolRGPTForConditionalGeneration.from_pretrained(tmp_path / "saved", dtype=torch.float32).eval()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_larger_vocabulary_than_asked_for_is_kept(tmp_path):
    _siglip(tmp_path / "vision")
    _llama(tmp_path / "text", vocab_size=64)
    assert _join(tmp_path).config.text_config.vocab_size == 64


@pytest.mark.parametrize("part", ["vision", "text"])
def test_a_weight_too_few_or_too_many_is_named(part, tmp_path):
    _dinov2(tmp_path / "vision")
    _llama(tmp_path / "text")
    path = tmp_path / part / "model.safetensors"
    weights = load_file(path)
    lost = next(name for name in weights if "mlp" in name)
    save_file({name: value for name, value in weights.items() if name != lost}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"missing: [\w.]*mlp"):
        _join(tmp_path)
    save_file({**weights, "surprise.weight": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"unexpected: surprise.weight"):
        _join(tmp_path)


def test_new_rows_are_distributed_like_the_old_ones_and_draw_no_randomness():
    random = torch.Generator().manual_seed(0)
    old = torch.randn(4000, 6, generator=random) @ torch.randn(6, 6, generator=random) + 2
    before = torch.get_rng_state()
    rows = append_rows(old, 24_000)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(rows[:4000], old)
    new = rows[4000:]
    torch.testing.assert_close(new.mean(0), old.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(new.T.cov(), old.T.cov(), rtol=0.1, atol=0.2)
    assert append_rows(old, 4000) is old


@pytest.mark.parametrize("fields", [{}, {"region_fusion": "name", "region_tokens": ["rgb", "depth", "geo"]}], ids=["published", "names"])
def test_model_and_processor_of_two_backbones_agree_on_every_added_token(vision, tmp_path, fields):
    words = train_tokenizer(["Which pallet is left of the other?"], 300)
    words.save_pretrained(tmp_path / "text")
    _llama(tmp_path / "text", vocab_size=len(words))
    SmolRGPTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=0.25).save_pretrained(tmp_path / "vision")
    folders = str(tmp_path / "vision"), str(tmp_path / "text")
    model = SmolRGPTForConditionalGeneration.from_backbones(*folders, refiner_stages=1, **fields).eval()
    processor = SmolRGPTProcessor.from_backbones(*folders, model.config)
    assert model.get_input_embeddings().num_embeddings == len(processor.tokenizer)
    assert model.config.region_token_ids == processor.region_token_ids and model.config.image_token_id == processor.image_token_id
    assert processor.image_processor.image_mean == [0.4, 0.5, 0.6]
    picture = np.zeros((20, 30, 3), dtype=np.uint8)
    answer = Predictor(model, processor).ask(picture, "Is <region 0> left of <region 1>?", regions=[(1, 1, 9, 9), (12, 3, 25, 15)])
    assert isinstance(answer.answer, str)


@pytest.mark.parametrize("changes", [{}, {"refiner_stages": 0}, {"vision_config": {"image_size": 64}, "pixel_shuffle_factor": 4}])
def test_a_smolrgpt_gives_its_tower_and_its_language_model_and_nothing_else(tiny_checkpoint, changes):
    source = SmolRGPTForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    fields = {"refiner_stages": 2, "region_tokens": ["rgb", "depth", "geo"], **changes}
    model = SmolRGPTForConditionalGeneration.from_backbones(str(tiny_checkpoint), str(tiny_checkpoint), **fields)
    processor = SmolRGPTProcessor.from_backbones(str(tiny_checkpoint), str(tiny_checkpoint), model.config)
    assert processor.region_token_ids == source.config.region_token_ids and processor.image_token_id == source.config.image_token_id
    given, taken = source.state_dict(), model.state_dict()
    resized = {name for name in taken if "position_embedding" in name} if "vision_config" in changes else set()
    kept = {name for name in taken if re.search(r"vision_tower\.|language_model\.|lm_head\.", name)}
    assert all(torch.equal(taken[name], given[name]) for name in kept - resized)
    fresh = [name for name in taken.keys() & given.keys() - kept if taken[name].shape == given[name].shape and taken[name].std() > 0]
    assert fresh and not any(torch.equal(taken[name], given[name]) for name in fresh)
