"""Laws of the scaling benchmark: only what is named varies, and what is said is what is asked. Speed itself is never asserted."""

from __future__ import annotations

import itertools
import json

import pytest

from benchmarks import scaling as bench_scaling
from benchmarks.scaling import BASE, FACTORS, Load, make_samples, scaling
from smolrgpt.data.worlds import generate_scene
from smolrgpt.model.processing_smolrgpt import TURN_END

SMALL = {"batch_size": ((1, 4), "at once"), "images": ((1, 2), "images"), "answer_tokens": ((1, 40), "tokens")}


def test_only_what_is_named_varies() -> None:
    scenes = [generate_scene((4, number), size=(192, 108)) for number in range(2)]
    asked = make_samples(Load(images=2, questions_per_image=3, regions=5, words=7), scenes)
    assert len(asked) == 6 and len({sample.image_key for sample in asked}) == 2
    assert all(len(sample.regions) == 5 and sample.question.count("please") == 7 for sample in asked)
    assert len({(sample.image_key, tuple(sample.regions)) for sample in asked}) == 6
    assert all(hasattr(BASE, name) and all(smaller < larger for smaller, larger in itertools.pairwise(values))
               for name, (values, _) in FACTORS.items())  # fmt: skip


@pytest.mark.slow
def test_every_value_is_timed_with_answers_of_as_many_tokens(monkeypatch) -> None:
    monkeypatch.setattr(bench_scaling, "FACTORS", SMALL)
    answers: list[list[int]] = []
    found = bench_scaling._unconstrained("nano")
    read = found.processor.post_process
    monkeypatch.setattr(found.processor, "post_process", lambda ids: answers.append(ids) or read(ids))
    monkeypatch.setattr(bench_scaling, "_unconstrained", lambda model: found)
    result = scaling("nano", repeats=1, factors=("answer_tokens", "images"), image_size=(192, 108))
    curve = result["curves"]["answer_tokens"]
    assert [point["value"] for point in curve] == [1, 40] and {point["questions"] for point in curve} == {16}
    short, long = answers[:32], answers[32:64]
    assert {len(ids) for ids in short} == {1} and {len(ids) for ids in long} == {40}
    end = found.processor.tokenizer.convert_tokens_to_ids(TURN_END)
    after_end = {token for ids in long if end in ids for token in ids[ids.index(end) + 1 :]}
    assert after_end - {found.generator.pad_id}  # an end token ends nothing
    assert [point["questions"] for point in result["curves"]["images"]] == [4, 8]
    assert "questions a second" in bench_scaling.render(result)
    with pytest.raises(ValueError, match="no factor 'weather'"):
        scaling("nano", factors=("weather",))


def test_the_command_writes_what_it_shows(monkeypatch, capsys, tmp_path) -> None:
    curve = [{"value": value, "questions": 4, "seconds": 0.5} for value in (0, 100)]
    result = {"model": "nano", "curves": {"words": curve, "images": [{**point, "value": point["value"] + 1} for point in curve]}}
    monkeypatch.setattr(bench_scaling, "scaling", lambda model, threads: result)
    out = tmp_path / "a" / "scaling.json"
    bench_scaling.main(["nano", "--out", str(out), "--json"])
    assert json.loads(capsys.readouterr().out) == result == json.loads(out.read_text())
    assert out.with_suffix(".png").stat().st_size > 1000
