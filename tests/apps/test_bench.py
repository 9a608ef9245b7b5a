"""Laws of the benchmark: it counts what is computed, asks what it says, and its ratios are of one run. Speed itself is never asserted."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from smolrgpt.apps import bench
from smolrgpt.cli import main as cli

SMALL = bench.Setting(model="nano", num_images=2, num_questions=5, baseline_questions=1, picture=(192, 108))


def test_a_roofline_counts_matrix_products_and_what_they_move() -> None:
    one, other = torch.ones(30, 20), torch.ones(20, 50)
    with bench.Roofline({"flops": 1e6, "bytes": 1e9}) as roofline:
        torch.nn.functional.gelu(one @ other)
    assert roofline.flops == 2 * 30 * 20 * 50 and roofline.bytes == 4 * (600 + 1000 + 1500)
    assert roofline.seconds == pytest.approx(0.06)  # the products take longer than the moving
    with bench.Roofline({"flops": 1e12, "bytes": 1e3}) as slow:
        one @ other
    assert slow.seconds == pytest.approx(12.4)
    layer = torch.nn.Linear(20, 50)
    with torch.inference_mode(), bench.Roofline({"flops": 1e6, "bytes": 1e9}) as inferred:
        layer(one)
    assert inferred.flops == roofline.flops


def test_questions_are_about_as_many_images_as_was_said() -> None:
    asked = bench.questions(2, 5, SMALL.picture)
    assert len(asked) == 5 and len({sample.image_key for sample in asked}) == 2
    assert all(2 <= len(sample.regions) <= 13 for sample in asked)
    assert [sample.question for sample in asked] == [sample.question for sample in bench.questions(2, 5, SMALL.picture)]


def test_every_way_is_measured(monkeypatch) -> None:
    monkeypatch.setattr(bench, "_alone", bench._in_process)
    monkeypatch.setattr(bench, "RELEASED_ANSWER", 3)
    monkeypatch.setattr(bench, "machine_limits", lambda dtype: {"flops": 1e11, "bytes": 1e10})
    result = bench.bench(SMALL)
    slow, fast = result["ways"]["released"], result["ways"]["engine"]
    assert (slow["questions"], fast["questions"]) == (1, 5) and slow["ratio"] == 1
    assert fast["ratio"] == pytest.approx(fast["questions_per_second"] / slow["questions_per_second"])
    assert fast["share_of_roofline"] == pytest.approx(fast["roofline_seconds"] / fast["seconds"]) and fast["flops"] > 1e8
    text = bench.render(result)
    assert "released" in text and f"{fast['ratio']:.1f}x" in text
    json.dumps(result)


def test_the_published_shapes_are_what_is_timed(monkeypatch) -> None:
    with torch.device("meta"):
        from smolrgpt.model import SmolRGPTConfig, SmolRGPTForConditionalGeneration

        published = sum(p.numel() for p in SmolRGPTForConditionalGeneration(SmolRGPTConfig()).parameters())
        model, processor = bench._random_paper(torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == published
    assert processor.num_image_tokens == 64 and processor.region_tokens == ("rgb", "depth")


def ratios(**values: float) -> dict:
    return {"ways": {"released": {"ratio": 1.0}, **{name: {"ratio": value} for name, value in values.items()}}}


def test_only_a_halving_is_told() -> None:
    assert bench.halved(ratios(engine=5.1), ratios(engine=10.0)) == []
    assert bench.halved(ratios(engine=4.9, other=1.0), ratios(engine=10.0)) == ["engine: 4.9x the released way, it was 10.0x"]
    with pytest.raises(ValueError, match="no way of asking has a ratio in both"):
        bench.halved(ratios(engine=4.9), ratios())


def test_a_halving_is_believed_when_it_stays() -> None:
    runs = iter([4.0, 4.0, 6.0, 4.0, 4.0, 4.0])
    assert bench.unless_halved(lambda: ratios(engine=next(runs)), ratios(engine=10.0)) == (ratios(engine=6.0), [])
    assert bench.unless_halved(lambda: ratios(engine=next(runs)), ratios(engine=10.0))[1] and not list(runs)
    assert bench.unless_halved(lambda: ratios(engine=1.0), None) == (ratios(engine=1.0), [])


def test_the_command(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(bench, "_alone", lambda name, setting, asked: {**bench._measured(3, 1.5), "setting": dataclasses.asdict(setting)})
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "nano", "--questions", "3", "--way", "engine", "--json", "--out", str(tmp_path / "a" / "bench.json")])
    shown = json.loads(capsys.readouterr().out)
    assert not stop.value.code and shown["ways"]["engine"]["questions_per_second"] == 2 and list(shown["ways"]) == ["engine"]
    assert json.loads((tmp_path / "a" / "bench.json").read_text()) == shown
    (tmp_path / "before.json").write_text(json.dumps(ratios(engine=10.0)))
    monkeypatch.setattr(bench, "bench", lambda setting, ways: {**ratios(engine=4.0), "setting": dataclasses.asdict(setting)})
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "nano", "--json", "--against", str(tmp_path / "before.json")])
    assert stop.value.code == 1 and "4.0x" in capsys.readouterr().err
    monkeypatch.undo()
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "nano", "--way", "magic"])
    assert stop.value.code == 2 and "magic" in capsys.readouterr().err
