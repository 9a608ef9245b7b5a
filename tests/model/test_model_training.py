"""Laws of the model in training: losses, packing, gradients, adapters."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_batches import CLOSE, NAMED, both_fusions, prompts, without

from smolrgpt.model import REGION_GEOMETRY_FEATURES, SmolRGPTForConditionalGeneration
from smolrgpt.model.packing import pack_rows
from smolrgpt.model.region_embedding import known_feature_mask
from smolrgpt.train.config import LossWeights
from smolrgpt.train.losses import total_loss


@torch.no_grad()
def test_loss_is_the_mean_over_labelled_tokens(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = tiny_batch(model.config)
    logits = model(**without(batch, "labels")).logits
    wanted = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    output = model(**batch)
    torch.testing.assert_close(output.loss, wanted, **CLOSE)
    torch.testing.assert_close(model(**batch, num_items_in_batch=torch.tensor(12)).loss, wanted / 2, **CLOSE)  # 6 of 12 labels are here
    assert output.logits is None
    assert model(**batch, logits_to_keep=1).logits.shape == (3, 1, 64)


@both_fusions
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_training_without_padding_changes_nothing(tiny_config, tiny_batch, attention, changes) -> None:
    """Packed and padded rows give the same loss and gradients."""
    config = tiny_config(**changes)
    results = []
    for packed in (True, False):
        torch.manual_seed(0)
        model = SmolRGPTForConditionalGeneration._from_config(config, attn_implementation=attention).train()
        batch = tiny_batch(model.config, extra_padding=3)
        rows = []
        original = model.model.language_model.forward
        model.model.language_model.forward = lambda *args, o=original, r=rows, **kwargs: (
            r.append(kwargs["inputs_embeds"].shape) or o(*args, **kwargs)
        )
        loss = model(**batch, **({} if packed else {"output_hidden_states": True})).loss
        loss.backward()
        assert (rows[0][1] < batch["input_ids"].shape[1]) == packed
        results.append((loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (one, gradients), (other, wanted) = results
    torch.testing.assert_close(one, other, **CLOSE)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, **CLOSE, msg=name)


def test_packed_rows_hold_every_token_once() -> None:
    lengths = torch.tensor([3, 9, 4, 5, 1, 0])
    mask = (torch.arange(11) >= 11 - lengths[:, None]).long()
    source, positions = pack_rows(mask)
    assert source.shape == (3, 9)  # 22 tokens in rows of 9: no fewer rows are possible
    assert sorted(source[source >= 0].tolist()) == mask.flatten().nonzero().flatten().tolist()
    starts = ((positions == 0) & (source >= 0)).sum().item()
    assert starts == (lengths > 0).sum() and (positions[source < 0] == 0).all()
    question = torch.where(source >= 0, source // 11, -1)
    for row, place in zip(question, positions, strict=True):
        for i in set(row.tolist()) - {-1}:
            assert place[row == i].tolist() == list(range(lengths[i]))


def test_a_batch_without_labelled_tokens_has_zero_loss(tiny_model, tiny_batch) -> None:
    model = tiny_model()
    batch = tiny_batch(model.config)
    loss = model(**{**batch, "labels": torch.full_like(batch["labels"], -100)}).loss
    loss.backward()
    assert loss.item() == 0


def test_geometry_loss_is_for_training_only(tiny_model, tiny_batch) -> None:
    model, weights = tiny_model(predicts_geometry=True), LossWeights(geometry=0.5)
    batch = tiny_batch(model.config)
    answer = model(**batch).loss
    assert model(**batch).geometry_loss is None
    trained = model.train()(**batch)
    total = total_loss(trained, batch["labels"], weights)
    torch.testing.assert_close(total, answer + 0.5 * trained.geometry_loss)
    accumulated = model(**batch, num_items_in_batch=12)
    half = total_loss(accumulated, batch["labels"], weights, num_items=12)
    torch.testing.assert_close(half, total / 2)  # half of the labels, half of the weight


def test_unknown_geometry_is_no_target() -> None:
    names = list(REGION_GEOMETRY_FEATURES)
    geometry = torch.zeros(4, len(names))  # no depth; relative depth; metric depth and camera; and a floor
    for row, flags in enumerate(
        ((), ("has_depth",), ("has_depth", "is_metric", "has_camera"), ("has_depth", "is_metric", "has_camera", "has_floor"))
    ):
        geometry[row, [names.index(flag) for flag in flags]] = 1.0
    known = known_feature_mask(geometry)
    unknown = [[name for name, weight in zip(names, row, strict=True) if not weight] for row in known.tolist()]
    assert unknown[3] == [] and all(name.startswith("floor_") for name in unknown[2]) and len(unknown[2]) == 4
    assert all(name.endswith("_m") for name in unknown[1]) and len(unknown[1]) == 11
    assert len(unknown[0]) == 17
    assert known[:, :7].all()


def test_geometry_of_another_version_is_refused(tiny_model, tiny_batch) -> None:
    model = tiny_model(**NAMED)
    batch = tiny_batch(model.config)
    width = batch["region_geometry"].shape[1]
    with pytest.raises(ValueError, match=rf"region_geometry has {width - 5} columns, this model learned from {width}"):
        model(**{**batch, "region_geometry": batch["region_geometry"][:, :-5]})


def test_frozen_vision_tower_builds_no_graph(tiny_model, tiny_batch) -> None:
    model = tiny_model().train()
    model.model.vision_tower.requires_grad_(False)
    batch = tiny_batch(model.config)
    assert not model.model.encode_patches(batch["pixel_values"]).requires_grad
    model(**batch).loss.backward()
    assert all(p.grad is None for p in model.model.vision_tower.parameters())
    assert model.model.depth_connector.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_checkpointing_changes_no_gradient(tiny_model, tiny_batch, frozen) -> None:
    model = tiny_model().train()
    model.model.vision_tower.requires_grad_(not frozen)
    batch = tiny_batch(model.config)
    model(**batch, use_cache=False).loss.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert model.is_gradient_checkpointing
    model(**batch, use_cache=False).loss.backward()
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, wanted[name], **CLOSE)


def test_lora_trains_and_merges(tiny_model, tiny_batch) -> None:
    peft = pytest.importorskip("peft")
    model = tiny_model()
    batch = tiny_batch(model.config)
    adapter = peft.LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=True)
    tuned = peft.get_peft_model(copy.deepcopy(model), adapter)
    before = tuned(**batch).loss
    torch.testing.assert_close(before, model(**batch).loss, **CLOSE)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        tuned(**batch).loss.backward()
        optimizer.step()
    tuned.eval()
    after = tuned(**batch).loss
    assert after < before
    prompt = prompts(batch)
    answers = tuned.generate(**prompt, max_new_tokens=3, do_sample=False)
    merged = tuned.merge_and_unload()
    assert isinstance(merged, SmolRGPTForConditionalGeneration)
    torch.testing.assert_close(merged(**batch).loss, after, **CLOSE)
    assert torch.equal(merged.generate(**prompt, max_new_tokens=3, do_sample=False), answers)


@pytest.mark.parametrize("normalised", [False, True])
def test_fresh_region_tokens_carry_signal(tiny_model, tiny_batch, normalised) -> None:
    """At initialisation no token drowns in the text's embeddings (std 0.02), and normalised ones drown no text."""
    model = tiny_model(region_norm=normalised)
    outputs = model(**tiny_batch(model.config))
    assert 0.01 < outputs.image_embeds.std() < 0.04
    for kind, embeds in outputs.region_features.tokens.items():
        assert 0.01 < embeds.pow(2).mean().sqrt() < (0.04 if normalised or kind == "geo" else 2), kind
