"""Laws of the benchmark: it counts what is computed, asks what it says, and its ratios are of one run. Speed itself is never asserted."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from benchmarks import answering
from benchmarks.machine import Roofline

SMALL = answering.Setting(model="nano", num_images=2, num_questions=5, baseline_questions=1, image_size=(192, 108))


def test_a_roofline_counts_matrix_products_and_what_they_move() -> None:
    left, right = torch.ones(30, 20), torch.ones(20, 50)
    with Roofline({"flops": 1e6, "bytes": 1e9}) as roofline:
        torch.nn.functional.gelu(left @ right)
    assert roofline.flops == 2 * 30 * 20 * 50 and roofline.bytes == 4 * (600 + 1000 + 1500)
    assert roofline.seconds == pytest.approx(0.06)  # the products take longer than the moving
    with Roofline({"flops": 1e12, "bytes": 1e3}) as slow:
        left @ right
    assert slow.seconds == pytest.approx(12.4)
    layer = torch.nn.Linear(20, 50)
    with torch.inference_mode(), Roofline({"flops": 1e6, "bytes": 1e9}) as inferred:
        layer(left)
    assert inferred.flops == roofline.flops


def test_questions_are_about_as_many_images_as_was_said() -> None:
    asked = answering.draw_questions(2, 5, SMALL.image_size)
    assert len(asked) == 5 and len({sample.image_key for sample in asked}) == 2
    assert all(2 <= len(sample.regions) <= 13 for sample in asked)
    assert [sample.question for sample in asked] == [sample.question for sample in answering.draw_questions(2, 5, SMALL.image_size)]


@pytest.mark.slow
def test_every_backend_is_measured(monkeypatch) -> None:
    monkeypatch.setattr(answering, "_in_new_process", answering._answer)
    monkeypatch.setattr(answering, "RELEASED_ANSWER", 3)
    monkeypatch.setattr(answering, "machine_limits", lambda dtype: {"flops": 1e11, "bytes": 1e10})
    result = answering.bench(SMALL)
    slow, fast = result["backends"]["released"], result["backends"]["engine"]
    assert (slow["questions"], fast["questions"]) == (1, 5) and slow["ratio"] == 1
    assert fast["ratio"] == pytest.approx(fast["questions_per_second"] / slow["questions_per_second"])
    assert fast["share_of_roofline"] == pytest.approx(fast["roofline_seconds"] / fast["seconds"]) and fast["flops"] > 1e8
    text = answering.render(result)
    assert "released" in text and f"{fast['ratio']:.1f}x" in text
    json.dumps(result)


def test_the_published_shapes_are_what_is_timed(monkeypatch) -> None:
    with torch.device("meta"):
        from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration

        published = sum(p.numel() for p in SmolRGPTForConditionalGeneration(SmolRGPTConfig()).parameters())
        model, processor = answering._random_paper(torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == published
    assert processor.num_image_tokens == 64 and processor.region_tokens == ("rgb", "depth")


def test_the_command(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(
        answering, "_in_new_process", lambda name, setting, asked: {**answering._measured(3, 1.5), "setting": dataclasses.asdict(setting)}
    )
    monkeypatch.setattr(answering, "draw_questions", lambda *_: [])
    out = tmp_path / "a" / "bench.json"
    answering.main(["nano", "--questions", "3", "--backend", "engine", "--json", "--out", str(out)])
    shown = json.loads(capsys.readouterr().out)
    assert shown["backends"]["engine"]["questions_per_second"] == 2 and list(shown["backends"]) == ["engine"]
    assert json.loads(out.read_text()) == shown
    with pytest.raises(SystemExit) as stop:
        answering.main(["nano", "--backend", "magic"])
    assert stop.value.code == 2 and "magic" in capsys.readouterr().err
