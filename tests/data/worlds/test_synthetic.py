"""Laws of the synthetic warehouse: right, deterministic, unguessable, readable by the official reader."""

from __future__ import annotations

import collections
import filecmp
import hashlib
import itertools
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from smolrgpt.data.geometry import backproject
from smolrgpt.data.sources.warehouse import read_warehouse
from smolrgpt.data.worlds import (
    KNOWN_LAYOUTS,
    LAYOUTS,
    RESERVED_LAYOUTS,
    generate_scene,
    random_generator,
    resolve_layouts,
    scene_samples,
    write_dataset,
)
from smolrgpt.data.worlds.captions import caption
from smolrgpt.data.worlds.layouts import make_plan
from smolrgpt.data.worlds.oracle import answer, true_geometry, visible_geometry
from smolrgpt.data.worlds.scene import MIN_VISIBLE_FRACTION, SURROUNDINGS, VIEWS, Scene
from smolrgpt.schema import DataError, SceneGraph
from smolrgpt.tasks import read_answer, recognise, task_named
from smolrgpt.tasks.question_sets import extra_questions, scene_questions, warmup_questions
from smolrgpt.tasks.relations import distance_m, stands_in
from smolrgpt.tasks.wording import load_wordings

NUM_SCENES = 45


@pytest.fixture(scope="module")
def scenes():
    names = list(LAYOUTS)
    return [generate_scene((11, k), names[k % len(names)]) for k in range(NUM_SCENES)]


@pytest.fixture(scope="module")
def asked(scenes):
    """(scene, its official questions)."""
    return [(scene, scene_questions(scene.graph, random_generator(12, k), 24)) for k, scene in enumerate(scenes)]


def _is_right(truth, given):
    return abs(given - truth) <= 0.1 * truth + 1e-9 if isinstance(truth, float) else truth == given


def test_layout_families():
    assert len(KNOWN_LAYOUTS) >= 6 and len(RESERVED_LAYOUTS) >= 2 and not set(KNOWN_LAYOUTS) & set(RESERVED_LAYOUTS)
    assert resolve_layouts("known") == KNOWN_LAYOUTS and resolve_layouts("rows, ring") == ("rows", "ring")
    with pytest.raises(ValueError, match="nowhere"):
        resolve_layouts("nowhere")
    with pytest.raises(ValueError, match="unknown"):
        generate_scene(0, "nowhere")


def test_nothing_overlaps_and_buffers_are_as_stated():
    for k, name in enumerate(LAYOUTS):
        for j in range(8):
            plan = make_plan(name, random_generator(1, k, j))
            solids = list(plan.solids())
            assert not any(one.overlaps(two) for i, one in enumerate(solids) for two in solids[:i])
            for rect, buffer in zip(plan.pallets, plan.pallet_buffers, strict=True):
                inside = [number for number, outline in enumerate(plan.buffers) if outline.contains(rect.x, rect.y)]
                assert inside == ([] if buffer is None else [buffer])
            assert len(plan.pallets) <= 12 and 1 <= len(plan.buffers) <= 4


def test_scene_arrays(scenes):
    for scene in scenes[:9]:
        assert scene.rgb.shape == (216, 384, 3) and scene.rgb.dtype == np.uint8
        assert scene.depth_m.shape == (216, 384) and scene.depth_m.dtype == np.float32
        assert np.isfinite(scene.depth_m).all() and scene.depth_m.min() > 0 and scene.depth_m.max() < 60
        assert scene.instances.max() <= len(scene.objects)
        for thing in scene.regions:
            assert thing.mask.sum() >= 60 and (thing.region.to_mask() == thing.mask).all()


def test_depth_is_exact(scenes):
    """Back-projected floor lies on the floor; what shows of an object lies in its box."""
    for scene in scenes[:9]:
        to_world = scene.pose.axes
        for thing in scene.regions:
            points = backproject(scene.depth_m, scene.camera, thing.mask) @ to_world + scene.pose.position
            u, v = thing.footprint.local(points[:, 0], points[:, 1])
            slack = 0.002 if thing.kind == "buffer" else 0.12  # turned cartons stick out a little
            assert (np.abs(u) <= thing.footprint.length / 2 + slack).all() and (np.abs(v) <= thing.footprint.width / 2 + slack).all()
            assert points[:, 2].min() > -0.005 and points[:, 2].max() < thing.size_m[2] + 0.005


def test_scenes_show_enough(scenes):
    counts = [[len(scene.of_kind(kind)) for kind in ("pallet", "buffer", "transporter")] for scene in scenes]
    assert np.mean([p >= 3 and b >= 2 and t >= 1 for p, b, t in counts]) > 0.95
    loads = [[thing.loaded for thing in scene.objects if thing.kind == "transporter"] for scene in scenes]
    assert all(several.count(False) == 1 for several in loads if len(several) > 1)


def test_oracle_answers_everything(asked):
    for scene, questions in asked:
        facts = true_geometry(scene)
        for question in questions:
            given = answer(question.text, [thing.region for thing in question.objects], facts)
            slack = 0.011 if question.category == "distance" else 0  # two roundings
            assert given == (pytest.approx(question.normalized_answer, abs=slack) if slack else question.normalized_answer)


def test_oracle_on_what_is_visible(asked):
    """Occlusion costs some distances and little else: the answers can be seen."""
    right = collections.defaultdict(list)
    for scene, questions in asked:
        facts = visible_geometry(scene)
        for question in questions:
            given = answer(question.text, [thing.region for thing in question.objects], facts)
            right[question.category].append(_is_right(question.normalized_answer, given))
    rates = {category: np.mean(values) for category, values in right.items()}
    assert rates["left_right"] == rates["count"] == 1 and rates["mcq"] > 0.85 and rates["distance"] > 0.75, rates


def test_answers_read_back(asked):
    """The answer text says the normalised answer, types included, and the words give the category away."""
    for _, questions in asked:
        for question in questions:
            read = read_answer(question.text, question.answer, task_named(question.category))
            assert read == question.normalized_answer and type(read) is type(question.normalized_answer)
            assert recognise(question.text).name == question.category
            assert max(map(int, re.findall(r"\[Region (\d+)\]", question.answer))) < len(question.objects)


_REGIONS = re.compile(r"\[Region (\d+)\]")


def _named(question, step):
    return [question.objects[int(name)] for name in _REGIONS.findall(step)]


def test_the_steps_lead_to_the_answer(asked):
    """Each kind of answer, worked out from what the steps state and nothing else."""
    for question in (question for _, questions in asked for question in questions):
        last = question.steps.split(", ")[-1]
        if question.category == "count":
            assert int(last.split("]")[-1]) == question.normalized_answer
        elif question.category == "mcq":
            assert _REGIONS.findall(last)[-1] == question.normalized_answer
        else:
            one, two = _named(question, last)
            if question.category == "distance":
                assert distance_m(one, two) == question.normalized_answer
            else:
                assert question.normalized_answer == ("left" if one.image_xy[0] < two.image_xy[0] else "right")


def test_steps_are_true_and_each_goes_on_where_the_last_one_ended(asked):
    """A comparison's word is true of its two, its winner meets the next one, and what a chain finds is what it says of all it compared."""
    found = collections.Counter()
    for question in (question for _, questions in asked for question in questions):
        compared, winner = [], None
        for step in question.steps.split(", "):
            words = _REGIONS.sub(" ", step).split()
            if not words or words[0] not in ("left", "right", "nearer", "farther", "leftmost", "rightmost", "middle", "nearest"):
                continue
            found[words[0]] += 1
            things = _named(question, step)
            if len(words) == 2:
                chosen, column = things[0], [thing.image_xy[0] for thing in compared]
                rank = sorted(column).index(chosen.image_xy[0]) if words[0] != "nearest" else None
                nearest = words[0] == "nearest" and chosen is min(
                    compared, key=lambda thing: np.linalg.norm(thing.center_m - anchor.center_m)
                )
                assert nearest or rank == {"leftmost": 0, "middle": 1, "rightmost": len(set(column)) - 1}[words[0]]
                assert chosen.kind == words[1] and (chosen is winner or words[0] == "middle")
                compared, winner = [], None
                continue
            *pair, better = things
            if len(pair) == 4:
                anchor, best, _, other = pair
                assert (words[0] == "nearer") == (
                    np.linalg.norm(best.center_m - anchor.center_m) < np.linalg.norm(other.center_m - anchor.center_m)
                )
                assert better is (best if words[0] == "nearer" else other)
            else:
                best, other = pair
                assert (words[0] == "left") == (best.image_xy[0] < other.image_xy[0]) and better in pair
            assert winner is None or best is winner or best is compared[0]  # "middle" starts again for its other end
            winner = better
            compared += [thing for thing in (best, other) if thing not in compared]
    assert len(found) == 8, found


def test_surveys_state_one_fact_per_region(scenes):
    found = collections.Counter()
    for k, scene in enumerate(scenes):
        for question in warmup_questions(scene.graph, random_generator(13, k), 18):
            if question.normalized_answer is not None:
                continue
            found[question.category] += 1
            steps = question.steps.split(", ")
            anchored = "[Region 0][Region " in steps[0]
            assert len(steps) == len(question.objects) - anchored
            for k_, (step, thing) in enumerate(zip(steps, question.objects, strict=False)):
                assert step.startswith(f"[Region {k_}]")
                value, anchor = step.split("] ")[-1].split("]")[-1].strip(), question.objects[-1]
                if question.category == "distances":
                    assert float(value) == pytest.approx(distance_m(thing, anchor), abs=0.051)
                elif question.category == "insides":
                    assert (value == "in") == stands_in(thing, anchor)
                elif question.category == "sides":
                    assert (value == "left") == (thing.image_xy[0] < anchor.image_xy[0])
                elif question.category == "loads":
                    assert value == ("loaded" if thing.loaded else "empty")
    assert set(found) == {"positions", "depths", "kinds", "distances", "sides", "insides", "loads"}


def test_question_shares(asked):
    questions = [question for _, questions in asked for question in questions]
    shares = collections.Counter(question.category for question in questions)
    assert all(0.17 < share / len(questions) < 0.33 for share in shares.values()) and len(shares) == 4
    distances = [question for question in questions if question.category == "distance"]
    assert 0.02 < np.mean([question.normalized_answer == 0 for question in distances]) < 0.12
    assert all(isinstance(question.normalized_answer, float) or question.normalized_answer == 0 for question in distances)
    assert 0.5 < np.mean([len(question.objects) == 2 for question in distances]) < 0.8
    counts = collections.Counter(question.normalized_answer for question in questions if question.category == "count")
    assert set(counts) == {1, 2, 3, 4} and max(counts.values()) < 0.45 * sum(counts.values())
    assert {len(question.objects) for question in questions} <= set(range(2, 16))
    assert all(question.text.count("<mask>") == len(question.objects) for question in questions)


def test_guessing_scores_near_chance(asked):
    """Best constant answer for each kind of wording and number of masks, fitted on one half, scored on the other."""

    def wording(question):
        kinds = "".join(thing.kind[0] for thing in question.objects)
        asks = " ".join(re.findall(r"\b(?:left|middle|right)\w*|shel\w+", question.text))
        return [(question.category, kinds, asks), (question.category, kinds), (question.category,)]

    fitted = collections.defaultdict(list)
    for _, questions in asked[::2]:
        for question in questions:
            for key in wording(question):
                fitted[key].append(question.normalized_answer)
    right = collections.defaultdict(list)
    for _, questions in asked[1::2]:
        for question in questions:
            known = next(fitted[key] for key in wording(question) if len(fitted[key]) >= 10 or len(key) == 1)
            guess = max(set(known), key=lambda value: sum(_is_right(truth, value) for truth in known))
            right[question.category].append(_is_right(question.normalized_answer, guess))
    rates = {category: 100 * np.mean(values) for category, values in right.items()}
    assert np.mean(list(rates.values())) <= 36, rates  # about 31 on large sets; the slack is this small sample's


def test_warmup_and_extra(scenes):
    for k, scene in enumerate(scenes[:9]):
        questions = warmup_questions(scene.graph, random_generator(13, k), 18) + extra_questions(scene.graph, random_generator(14, k), 6)
        assert len(questions) > 15
        assert all(question.text.count("<mask>") == len(question.objects) and question.answer for question in questions)
        assert caption(scene.graph).startswith("A warehouse with")


@pytest.mark.parametrize("visible", range(7))
def test_captions_fit_any_number_of_buffers(scenes, visible):
    """Buffers may all be hidden; there may be more than any layout has now."""
    scene = next(scene for scene in scenes if len(scene.of_kind("buffer")) > 1)
    buffers = itertools.islice(itertools.cycle(scene.graph.of_kind("buffer")), visible)
    others = [item for item in scene.graph.objects if item.kind != "buffer"]
    crowd = SceneGraph((*others, *buffers), scene.camera, scene.pose)
    assert caption(crowd).count("buffer region") >= visible


def test_same_seed_same_scene():
    one, two, other = generate_scene((5, 1)), generate_scene((5, 1)), generate_scene((5, 2))
    assert one.rgb.tobytes() == two.rgb.tobytes() and one.depth_m.tobytes() == two.depth_m.tobytes()
    assert one.rgb.tobytes() != other.rgb.tobytes()
    texts = [[(q.text, q.answer) for q in scene_questions(scene.graph, random_generator(6), 12)] for scene in (one, two)]
    assert texts[0] == texts[1]


def test_samples_share_picture_and_carry_metric_depth():
    scene = generate_scene(3)
    samples = scene_samples(scene, 8, random_generator(4))
    assert len(samples) == 8 and len({sample.image_key for sample in samples}) == 1 and len({sample.id for sample in samples}) == 8
    assert samples[0].depth.kind == "metric" and samples[0].camera == scene.camera


def test_written_set(tmp_path):
    """Official layout; finished sets are left alone, broken-off ones continued, those with other settings refused."""
    settings = {"layouts": "known", "questions_per_scene": 8, "progress": False}
    main = write_dataset(tmp_path / "a", "val", 3, 21, workers=1, **settings)
    rows = json.loads(main.read_text())
    ours = {"layout", "steps", "centers_m", "sizes_m"}
    assert {"id", "image", "conversations", "rle", "category", "normalized_answer", "freeform_answer", *ours} == set(rows[0])
    assert len({row["id"] for row in rows}) == len(rows) and all(re.fullmatch("[0-9a-f]{32}", row["id"]) for row in rows)
    for split in ("val", "val_warmup", "val_extra", "val_captions"):
        samples = read_warehouse(tmp_path / "a", split, depth="metric", folder="val")
        assert samples and all(sample.camera is not None and sample.depth is not None for sample in samples)

    stamp = main.stat().st_mtime_ns
    assert write_dataset(tmp_path / "a", "val", 3, 21, **settings) == main and main.stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="other settings|finished set"):
        write_dataset(tmp_path / "a", "val", 4, 21, **settings)

    _break_off(tmp_path / "b", settings)
    write_dataset(tmp_path / "b", "val", 3, 21, workers=1, **settings)
    assert _tree(tmp_path / "a") == _tree(tmp_path / "b")
    assert filecmp.cmp(main, tmp_path / "b" / "val.json", shallow=False)


def test_same_bytes_for_any_number_of_workers(tmp_path):
    for workers in (1, 2):
        write_dataset(tmp_path / str(workers), "train", 16, 2, size=(96, 54), questions_per_scene=4, workers=workers, progress=False)
    assert _tree(tmp_path / "1") == _tree(tmp_path / "2")


def test_workers_that_die_end_the_run_with_a_word(tmp_path):
    """Here: a script without the guard that starting processes needs, which each of them runs again."""
    script = tmp_path / "draw.py"
    call = f"write_dataset({str(tmp_path / 'set')!r}, 'train', 16, 2, size=(96, 54), questions_per_scene=4, workers=2, progress=False)"
    script.write_text(f"from smolrgpt.data.worlds import write_dataset\n{call}\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "a process that draws scenes has died" in done.stderr and "run it again" in done.stderr
    write_dataset(tmp_path / "set", "train", 16, 2, size=(96, 54), questions_per_scene=4, workers=2, progress=False)
    assert (tmp_path / "set" / "train.json").is_file()


def _break_off(root, settings):
    """Leaves what a run killed after one scene leaves."""
    from smolrgpt.data.worlds import writer

    def stop(*_):
        raise KeyboardInterrupt

    original, calls = writer._write_scene, []

    def once(index, **arguments):
        calls.append(index)
        return original(index, **arguments) if len(calls) == 1 else stop()

    writer._write_scene = once
    try:
        with pytest.raises(KeyboardInterrupt):
            write_dataset(root, "val", 3, 21, workers=1, **settings)
    finally:
        writer._write_scene = original
    assert not (root / "val").exists() and len(list((root / ".val.partial" / "scenes").iterdir())) == 1


def _tree(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_speed(scenes):
    """Far below the promised 15 images a second, so that a busy machine does not fail it."""
    start = time.process_time()
    for k in range(6):
        generate_scene((30, k))
    assert 6 / (time.process_time() - start) > 7


@pytest.mark.parametrize("bad", [{"num_scenes": 0}, {"seed": -1}, {"questions_per_scene": 0}, {"layouts": "nowhere"}])
def test_bad_settings(tmp_path, bad):
    with pytest.raises(ValueError):
        write_dataset(tmp_path, "val", **{"num_scenes": 1, "seed": 0, **bad})


@pytest.mark.parametrize("name", VIEWS)
def test_cameras_stand_where_their_view_says(name: str) -> None:
    view = VIEWS[name]
    for seed in range(2):
        scene = generate_scene(seed, size=(96, 54), view=view)
        forward = scene.pose.axes[2]
        pitch, fov = math.degrees(math.asin(-forward[2])), math.degrees(2 * math.atan(scene.camera.width / 2 / scene.camera.fx))
        assert view.pitch_deg[0] - 0.1 <= pitch <= view.pitch_deg[1] + 0.1
        assert view.fov_deg[0] - 0.1 <= fov <= view.fov_deg[1] + 0.1
        assert view.height_m[0] <= scene.pose.position[2] <= view.height_m[1] + 0.31  # the target is 0.3 m above the floor


def test_a_set_of_another_view_is_another_set(tmp_path: Path) -> None:
    write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False, view="low")
    assert "low" in (tmp_path / "val" / "settings.json").read_text()
    with pytest.raises(DataError, match="no finished set with these settings"):
        write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False)
    with pytest.raises(ValueError, match="'fisheye'"):
        write_dataset(tmp_path, "other", 1, 3, workers=1, progress=False, view="fisheye")


@pytest.mark.parametrize("name", ["dim", "harsh", "painted"])
def test_light_and_paint_change_the_picture_and_nothing_else(name: str) -> None:
    usual, other = (generate_scene((8, 1), size=(96, 54), surroundings=SURROUNDINGS[which]) for which in ("usual", name))
    assert np.array_equal(usual.depth_m, other.depth_m) and np.array_equal(usual.instances, other.instances)
    assert np.abs(usual.rgb.astype(int) - other.rgb).mean() > 4


def test_the_names_of_surroundings_are_kept() -> None:
    def means(name: str) -> tuple[float, float]:
        """Things in a scene that are no goods, floor or wall (boxes of no owner), and the least visible share of a region."""
        scenes = [generate_scene((9, k), size=(192, 108), surroundings=SURROUNDINGS[name]) for k in range(8)]
        loose = np.mean([((scene.instances == 0) & (_height_m(scene) > 0.25) & (_height_m(scene) < 2.9)).mean() for scene in scenes])
        return float(loose), min(thing.visible_fraction for scene in scenes for thing in scene.regions)

    usual, cluttered, hidden = means("usual"), means("cluttered"), means("hidden")
    assert cluttered[0] > 1.3 * usual[0] and hidden[0] > 1.3 * usual[0]
    assert usual[1] >= MIN_VISIBLE_FRACTION > hidden[1] >= SURROUNDINGS["hidden"].min_visible


def _height_m(scene: Scene) -> np.ndarray:
    """(H, W): above the floor, of what each pixel shows."""
    camera = scene.camera
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    x, y = (columns - camera.cx) / camera.fx * scene.depth_m, (rows - camera.cy) / camera.fy * scene.depth_m
    return np.stack([x, y, scene.depth_m], -1) @ scene.pose.axes[:, 2] + scene.pose.position[2]


def test_a_set_of_other_surroundings_is_another_set(tmp_path: Path) -> None:
    write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False, surroundings="hidden")
    assert "hidden" in (tmp_path / "val" / "settings.json").read_text()
    with pytest.raises(DataError, match="no finished set with these settings"):
        write_dataset(tmp_path, "val", 1, 3, workers=1, progress=False)
    with pytest.raises(ValueError, match="no surroundings 'fog'"):
        write_dataset(tmp_path, "other", 1, 3, workers=1, progress=False, surroundings="fog")


# ------------------------------------------------------------------------------------------------------------------ plain words
#: What is asked -> wording -> forms, of all families.
FORMS = {asked: forms for family in ("side", "distance", "choice", "count", "size") for asked, forms in load_wordings(family).items()}


def _plain(wording, n=6):
    from smolrgpt.tasks.question_sets import plain_questions

    for number in range(n):
        scene = generate_scene((91, number))
        for question in plain_questions(scene.graph, random_generator(91, number, 2), 12, wording):
            yield scene, question


@pytest.mark.parametrize("wording", ["known", "reserved"])
def test_plain_questions_are_true_of_their_scene_and_known_for_what_they_are(wording) -> None:
    from smolrgpt.tasks.relations import distance_m, stands_in

    seen = set()
    for _, question in _plain(wording):
        assert question.text.count("<mask>") == len(question.objects)
        assert wording == "reserved" or recognise(question.text).name == question.category, question.text
        seen.add(question.category)
        things, value = question.objects, question.normalized_answer
        if question.category == "left_right":
            named = [int(number) for number in re.findall(r"\[Region (\d)\]", question.answer)]
            one, two = (things[number] for number in named)
            assert (value == "left") == (one.image_xy[0] < two.image_xy[0])
            assert question.steps == "".join(f"[Region {number}]" for number in named)
        elif question.category == "distance":
            assert value == distance_m(*things)
        elif question.category == "count":
            (buffer,) = [thing for thing in things if thing.kind == "buffer"]
            assert value == sum(stands_in(thing, buffer) for thing in things if thing is not buffer)
        elif question.category == "mcq":
            assert question.steps.endswith(f"[Region {value}]")
        elif question.category == "vertical":
            one, two = (thing.center_m[2] for thing in things)
            assert value == pytest.approx(abs(one - two), abs=0.006) and value >= 0.05
    assert seen == {"left_right", "distance", "count", "mcq", "width", "height", "vertical"}


def test_reserved_wordings_are_never_asked_as_known_ones() -> None:
    def core(form: str) -> str:
        return form.lower().replace("meters", "metres").rstrip("?.")

    for asked, forms in FORMS.items():
        known, reserved = ([core(form) for form in forms[wording]] for wording in ("known", "reserved"))
        assert not set(known) & set(reserved) and min(len(known), len(reserved)) >= 8, asked
        assert len(set(known)) == len(known) and len(set(reserved)) == len(reserved), asked


@pytest.mark.parametrize(
    ("asked", "category", "places"),
    [
        ("sides", "left_right", ["{a}{b}"]),
        ("distances", "distance", ["{a}{b}"]),
        ("extremes", "mcq", ["{list}{side}", "{list}{short}"]),
        ("nearest", "mcq", ["{a}{list}"]),
        ("counts", "count", ["{b}{list}"]),
        ("widths", "width", ["{a}"]),
        ("heights", "height", ["{a}"]),
        ("apart", "vertical", ["{a}{b}"]),
    ],
)
def test_wordings_have_their_places_and_words_that_tell_what_is_wanted(asked: str, category: str, places: list[str]) -> None:
    """All of them where the rules were written with them at hand; all but two of each kind where they were not."""
    things = {"a": "the pallet <mask>", "b": "the buffer <mask>" if asked == "counts" else "<mask>", "list": "<mask>, <mask> and <mask>"}
    right = {wording: [] for wording in FORMS[asked]}
    for wording, forms in FORMS[asked].items():
        for form in forms:
            assert "".join(sorted(re.findall(r"\{\w+\}", form))) in places, form
            right[wording].append(recognise(form.format(**things, side="leftmost", short="left")).name == category)
    assert all(right["known"]), [form for form, good in zip(FORMS[asked]["known"], right["known"], strict=True) if not good]
    assert sum(right["reserved"]) >= len(right["reserved"]) - 2
