"""Adapters learn in place of the language model, and merged they are the language model."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.train.lora import ADAPTERS, add_adapters, merge
from smolrgpt.train.optim import build_optimizer

RATES = ((ADAPTERS, 1e-1), (r"vision_tower\.|language_model\.|lm_head", None), (r".", 1e-2))


@pytest.fixture
def build(tiny_checkpoint):
    """``build(fusion, tied)``: a tiny model in eval mode, a batch with labels, the ids of region names."""

    def make(fusion: str, tied: bool):
        processor = SmolRGPTProcessor.from_pretrained(tiny_checkpoint)
        processor.region_fusion = fusion
        names = [int(processor.tokenizer.convert_tokens_to_ids(f"[Region {i}]")) for i in range(8)]
        named = {"region_fusion": "name", "region_name_token_ids": names, "pair_geometry": True} if fusion == "name" else {}
        fields = SmolRGPTConfig.from_pretrained(tiny_checkpoint).to_dict()
        torch.manual_seed(0)
        model = SmolRGPTForConditionalGeneration(SmolRGPTConfig(**{**fields, **named, "tie_word_embeddings": tied})).eval()
        mask = np.zeros((20, 30), dtype=bool)
        mask[3:9, 4:12] = True
        question = "How far is the pallet <mask> from <mask>?"
        pixels = np.full((20, 30, 3), 90, dtype=np.uint8)
        batch = processor(images=[pixels], regions=[[mask, ~mask]], text=question, answers="[Region 0][Region 1] 3.2")
        return model, dict(batch), names if named else []

    return make


def _train(model, batch):
    optimizer = build_optimizer(model, RATES, 0.01)
    model.train()
    for _ in range(2):  # the first step moves one factor of each adapter only
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("fusion", ["tokens", "name"])
def test_only_adapters_and_our_modules_learn_and_merging_changes_no_answer(fusion, tied, build, tmp_path):
    model, batch, names = build(fusion, tied)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    adapted = add_adapters(model, {"r": 4, "lora_alpha": 8})
    _train(model, batch)
    with torch.no_grad():
        expected = model(**inputs).logits
        merged = merge(adapted)
        torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
    after = merged.state_dict()
    assert after.keys() == before.keys(), "an ordinary checkpoint"
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert any("connector" in name for name in changed) and not any("vision_tower" in name for name in changed)
    language = {name for name in changed if re.search(r"language_model|lm_head", name)}
    assert any("_proj" in name for name in language) and not any("norm" in name for name in language)
    words = "model.language_model.embed_tokens.weight"
    assert set((after[words] != before[words]).any(1).nonzero().flatten().tolist()) <= set(names), "of the words only the names learn"
    assert tied == torch.equal(after[words], after["lm_head.weight"])
    merged.save_pretrained(tmp_path)
    again = SmolRGPTForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name or "base_layer" in name for name in load_file(tmp_path / "model.safetensors"))
