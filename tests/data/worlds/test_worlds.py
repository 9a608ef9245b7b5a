"""Laws of every world: what stands rests on something, depth and masks agree with the boxes, questions have answers, seeds repeat."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from smolrgpt.data.geometry import backproject
from smolrgpt.data.measure import MarkedObject, measure_graph
from smolrgpt.data.worlds import WORLDS, Scene, generate_scene, random_generator, resolve_layouts, scale_scene, scene_samples
from smolrgpt.data.worlds.objects import load_recipes, make_thing
from smolrgpt.data.worlds.oracle import answer, true_geometry
from smolrgpt.data.worlds.question_sets import extra_questions, plain_questions, scene_questions
from smolrgpt.schema import DepthMap
from smolrgpt.tasks.relations import side_of

pytestmark = pytest.mark.slow  # many cases, each short
NEW_WORLDS = tuple(name for name in WORLDS if name != "warehouse")
LAYOUTS = [layout for world in NEW_WORLDS for layout in (*WORLDS[world].known, *WORLDS[world].reserved)]


@pytest.fixture(scope="module", params=LAYOUTS)
def drawn(request: pytest.FixtureRequest) -> list[Scene]:
    return [generate_scene((61, k), request.param, size=(192, 108)) for k in range(2)]


@pytest.mark.parametrize("name", load_recipes())
def test_parts_fill_the_box_of_a_thing(name: str) -> None:
    thing = make_thing(name, random_generator(1))
    points = []
    for part in thing.solids:
        ends = np.array(list(itertools.product((-1, 1), repeat=3))) * part.half
        upper = part.half[2] * (part.shape not in ("bowl", "dome"))
        ends[:, 2] = np.clip(ends[:, 2], -np.inf, upper)
        points.append(ends @ part.axes.T + part.center)
    low, high = np.concatenate(points).min(0), np.concatenate(points).max(0)
    size = np.array(thing.size_m)
    slack = 0.03 * size + 1e-4
    assert (np.abs(low - [-size[0] / 2, -size[1] / 2, 0]) <= slack).all() and (
        np.abs(high - [size[0] / 2, size[1] / 2, size[2]]) <= slack
    ).all()


def test_masks_are_the_instances(drawn: list[Scene]) -> None:
    for scene in drawn:
        assert scene.instances.shape == scene.depth_m.shape == scene.rgb.shape[:2]
        for number, item in enumerate(scene.objects):
            assert np.array_equal(item.mask, scene.instances == number + 1)
        assert len({item.region for item in scene.regions}) == len(scene.regions)


def test_what_shows_of_an_object_lies_in_its_box(drawn: list[Scene]) -> None:
    for scene in drawn:
        for item in scene.regions:
            points = scene.pose.to_scene(backproject(scene.depth_m, scene.camera, item.mask))
            u, v = item.footprint.to_local(points[:, 0], points[:, 1])
            length, width, height = item.size_m
            slack = 1e-3 + 0.03 * max(item.size_m)
            assert np.abs(u).max() <= length / 2 + slack and np.abs(v).max() <= width / 2 + slack, item.name
            assert np.abs(points[:, 2] - item.center_m[2]).max() <= height / 2 + slack, item.name


def test_nothing_floats_and_nothing_is_in_another(drawn: list[Scene]) -> None:
    """What stands above the plane stands on, or on a board of, what is below it; others keep apart. Steps are no objects."""
    for scene in drawn:
        ends = [(item.center_m[2] - item.size_m[2] / 2, item.center_m[2] + item.size_m[2] / 2) for item in scene.objects]
        for item, (low, high) in zip(scene.objects, ends, strict=True):
            hosts = []
            for other, (foot, top) in zip(scene.objects, ends, strict=True):
                if other is not item and item.footprint.overlaps(other.footprint, -1e-3) and low < top + 1e-5 and foot < high:
                    hosts.append(load_recipes()[other.name].get("boards") or low >= top - 1e-5)
                    hosts[-1] = hosts[-1] or other.is_tilted or item.is_tilted
                    is_flat = min(other.size_m[2], item.size_m[2]) <= 0.005
                    carries = bool(load_recipes()[item.name].get("boards")) and foot >= low
                    assert hosts[-1] or carries or is_flat or high <= foot + 1e-5, (item.name, other.name)
            assert abs(low) < 1e-6 or any(hosts) or scene.layout == "steps", (item.name, low)


def test_measured_scenes_agree(drawn: list[Scene]) -> None:
    """Sides are the same; the middle of what shows lies within the box of the whole."""
    for scene in drawn:
        marked = [MarkedObject(item.kind, item.name, item.region) for item in scene.regions]
        measured = measure_graph(marked, DepthMap(scene.depth_m, "metric"), scene.camera, scene.pose).objects
        assert len(measured) == len(scene.graph.objects) >= 3
        for seen, item in zip(measured, scene.graph.objects, strict=True):
            assert np.linalg.norm(seen.center_m - item.center_m) <= np.linalg.norm(item.size_m) / 2 + 1e-3
        for (a, b), (c, d) in zip(itertools.pairwise(measured), itertools.pairwise(scene.graph.objects), strict=True):
            assert side_of(a, b) == side_of(c, d)


def test_every_scene_has_questions_of_the_official_kinds(drawn: list[Scene]) -> None:
    for scene in drawn:
        samples = scene_samples(scene, 16, random_generator(5))
        assert {sample.category for sample in samples} >= {"left_right", "distance"}
        questions = extra_questions(scene.graph, random_generator(6), 8) + plain_questions(scene.graph, random_generator(7), 160)
        assert {question.category for question in questions} >= {"width", "mcq"} and len(questions) >= 20


def test_the_oracle_agrees_with_the_official_questions(drawn: list[Scene]) -> None:
    for scene in drawn:
        facts = true_geometry(scene)
        for question in scene_questions(scene.graph, random_generator(8), 24):
            given = answer(question.text, [item.region for item in question.objects], facts)
            truth = question.normalized_answer
            assert given == (pytest.approx(truth, rel=0.01) if isinstance(truth, float) else truth), question.text


@pytest.mark.parametrize("world", NEW_WORLDS)
def test_things_for_testing_are_in_reserved_layouts_only(world: str) -> None:
    def names(layouts: tuple[str, ...]) -> set[str]:
        return {item.name for layout in layouts for k in range(3) for item in generate_scene((8, k), layout, size=(64, 48)).objects}

    reserved = {name for name, recipe in load_recipes().items() if recipe.get("reserved")}
    assert len(WORLDS[world].reserved) >= 2
    assert not names(WORLDS[world].known) & reserved and len(names(WORLDS[world].reserved) & reserved) >= 3


@pytest.mark.parametrize("world", NEW_WORLDS)
def test_the_same_seed_gives_the_same_scene_at_any_scale(world: str) -> None:
    layout = resolve_layouts("known", world)[0]
    one, same = (generate_scene((4, 2), layout, size=(96, 54)) for _ in range(2))
    assert one.rgb.tobytes() == same.rgb.tobytes() and one.depth_m.tobytes() == same.depth_m.tobytes()
    other = generate_scene((4, 2), layout, size=(96, 54), scales=(0.03, 10))
    assert 0.03 <= other.scale <= 10 and other.scale != 1 and other.rgb.tobytes() == one.rgb.tobytes()
    expected = scale_scene(one, other.scale)
    assert np.allclose(other.depth_m, one.depth_m * other.scale, equal_nan=True)
    for item, wanted, base in zip(other.graph.objects, expected.graph.objects, one.graph.objects, strict=True):
        assert np.allclose(item.center_m, wanted.center_m) and np.allclose(item.size_m, np.multiply(base.size_m, other.scale))


def test_unknown_worlds_and_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no world 'sea'"):
        resolve_layouts("known", "sea")
    with pytest.raises(ValueError, match="unknown"):
        generate_scene(0, "nowhere")
    assert set(resolve_layouts("reserved", "mixed")) >= {"ring", "table_ring", "studio", "farm"}


def test_drawn_areas_hold_what_the_image_shows_in_them(drawn: list[Scene]) -> None:
    """Objects are clearly inside or outside, counts follow, and nothing but counts uses an area."""
    for scene in drawn:
        for area, (x0, y0, x1, y1) in zip(scene.graph.areas, scene.areas, strict=True):
            for item in scene.graph.of_kind("pallet"):
                mask = item.region.to_mask()
                share = mask[y0:y1, x0:x1].sum() / mask.sum()
                assert share < 0.25 or share > 0.8
                assert area.covers(item) == (share > 0.5)
        questions = extra_questions(scene.graph, random_generator(6), 40) + plain_questions(scene.graph, random_generator(7), 40)
        for question in questions:
            is_inside = question.category in ("count", "inside", "insides", "existence", "relation")
            assert is_inside or not any(item.drawn_box is not None for item in question.objects)
