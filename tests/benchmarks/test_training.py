"""Laws of the training benchmark: both ways learn the same, step by step. Speed itself is never asserted."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from benchmarks import training
from benchmarks.training import Backend, Setting, our_loss, released_loss, train_steps
from smolrgpt.inference.checkpoints import bundled_checkpoint
from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration, SmolRGPTProcessor
from smolrgpt.model.processing_smolrgpt import extend_vocabulary

SMALL = Setting(images_per_step=2, questions_per_image=3, steps=3, image_size=(192, 108))
NARROW = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}


def tiny_published(mask_resize: str) -> tuple[SmolRGPTForConditionalGeneration, SmolRGPTProcessor]:
    """The published design, narrow, with random weights."""
    tokenizer = SmolRGPTProcessor.from_pretrained(bundled_checkpoint("nano")).tokenizer
    fields = extend_vocabulary(tokenizer, {})
    config = SmolRGPTConfig(
        vision_config={"model_type": "siglip_vision_model", "image_size": 64, "patch_size": 16, "vision_use_head": False, **NARROW},
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
            **NARROW,
        },
        image_token_id=fields["image_token_id"],
        region_token_ids=fields["region_token_ids"],
    )
    torch.manual_seed(0)
    model = SmolRGPTForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation="eager")
    return model, SmolRGPTProcessor.for_model(config, tokenizer, mask_resize=mask_resize)


@pytest.mark.slow
def test_ours_learns_what_the_released_program_learns() -> None:
    steps = training.draw_steps(SMALL)
    model, processor = tiny_published("bilinear")
    other = copy.deepcopy(model)
    other.set_attn_implementation("sdpa")
    ours, _ = train_steps(model, processor, steps, Backend(our_loss, bf16=False, attention="eager"))
    theirs, _ = train_steps(other, processor, steps, Backend(released_loss, bf16=False, attention="sdpa"))
    assert ours == pytest.approx(theirs, abs=2e-5)
    assert len(set(ours)) == len(steps)  # other questions, other losses
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(
            one, two, atol=2e-4, rtol=0, msg=name
        )  # Adam's first steps are of the rate's size, 5e-5, whatever the gradient
    assert not all(torch.equal(one, two) for one, two in zip(tiny_published("bilinear")[0].parameters(), model.parameters(), strict=True))


def test_features_from_disk_change_no_loss() -> None:
    steps = training.draw_steps(SMALL)
    model, processor = tiny_published("area")
    other = copy.deepcopy(model)
    plain, _ = train_steps(model, processor, steps, Backend(our_loss, bf16=False, attention="eager"))
    read, _ = train_steps(other, processor, steps, Backend(our_loss, bf16=False, attention="eager", from_disk=True))
    assert read == pytest.approx(plain, abs=1e-5)


def test_checkpointing_changes_no_loss() -> None:
    steps = training.draw_steps(SMALL)[:2]
    losses = [train_steps(*tiny_published("area"), steps, Backend(our_loss, False, "eager", parts))[0] for parts in (False, True)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.slow
def test_every_backend_is_measured(monkeypatch) -> None:
    class Here:
        """Runs at once, in this process."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def submit(self, work, *arguments):
            self.value = work(*arguments)
            return self

        def result(self):
            return self.value

    monkeypatch.setattr(training, "fresh_process", Here)
    monkeypatch.setattr(training, "load_model", lambda name, dtype: tiny_published("area"))
    monkeypatch.setattr(training, "keep_freed_memory", lambda: True)
    result = training.bench_training(SMALL)
    first, ours = result["backends"]["released, float32"], result["backends"]["ours"]
    assert first["ratio"] == 1 and first["memory_share"] == 1 and len(ours["losses"]) == SMALL.steps
    assert ours["questions"] == 12 and ours["questions_per_second"] == pytest.approx(12 / ours["seconds"])
    assert ours["ratio"] == pytest.approx(ours["questions_per_second"] / first["questions_per_second"])
    assert all(name in training.render(result) for name in training.BACKENDS)
    json.dumps(result)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no backend 'theirs'"):
        training.bench_training(SMALL, ["theirs"])
    with pytest.raises(ValueError, match="at least 2"):
        training.bench_training(Setting(steps=1))


def test_the_command(monkeypatch, capsys) -> None:
    seen = []
    monkeypatch.setattr(training, "bench_training", lambda setting, ways: seen.append((setting, ways)) or {"backends": {}})
    training.main(["nano", "--images", "3", "--questions", "12", "--backend", "ours", "--json"])
    assert json.loads(capsys.readouterr().out) == {"backends": {}}
    assert seen == [(Setting("nano", images_per_step=3, questions_per_image=4), ["ours"])]
