"""Laws of scene graphs: a drawn, an annotated and a measured graph of one scene answer the same questions in the same way."""

from __future__ import annotations

import collections
import itertools
import math

import numpy as np
import pytest

from smolrgpt.data.measure import MarkedObject, measure_graph
from smolrgpt.data.worlds import Scene, generate_scene, random_generator
from smolrgpt.data.worlds.question_sets import extra_questions, plain_questions, scene_questions, template_questions, warmup_questions
from smolrgpt.data.worlds.scene import NOUNS
from smolrgpt.schema import CameraPose, DepthMap, SceneGraph, SceneObject
from smolrgpt.tasks.relations import distance_m, side_of, stands_in, vertical_distance_m


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return [generate_scene((17, k)) for k in range(8)]


def floor_pose(scene: Scene) -> CameraPose:
    """The pose that a user knows who has only the floor's plane in camera coordinates."""
    normal = scene.pose.axes[:, 2]  # the floor's direction up, in camera coordinates
    return CameraPose.above_plane(3 * normal, 3 * scene.pose.position[2])


def annotated_graph(scene: Scene) -> SceneGraph:
    """From 3-D boxes in camera coordinates, as data sets annotate them: middle, size and the direction of the length."""
    pose, objects = floor_pose(scene), []
    for item in scene.regions:
        yaw = item.footprint.yaw
        along = scene.pose.axes @ np.array([math.cos(yaw), math.sin(yaw), 0.0])  # in camera coordinates
        x, y, _ = along @ pose.axes
        center = pose.to_scene(scene.pose.to_camera(item.center_m))
        geometry = {"center_m": center, "size_m": item.size_m, "yaw_rad": math.atan2(y, x)}
        objects.append(SceneObject(item.kind, NOUNS[item.kind], item.region, item.image_xy, loaded=item.loaded, **geometry))
    return SceneGraph(tuple(objects), scene.camera, pose)


def measured_graph(scene: Scene, pose: CameraPose | None) -> SceneGraph:
    """From masks, metric depth and the camera."""
    marked = [MarkedObject(item.kind, NOUNS[item.kind], item.region, item.loaded) for item in scene.regions]
    return measure_graph(marked, DepthMap(scene.depth_m, "metric"), scene.camera, pose)


def questions_of(graph: SceneGraph, seed: int):
    """Questions of all sets."""
    for k, ask in enumerate((scene_questions, warmup_questions, extra_questions, plain_questions, template_questions)):
        yield from ask(graph, random_generator(18, seed, k), 24)


def test_poses_turn_points_there_and_back():
    rng = np.random.default_rng(0)
    for normal in (*rng.normal(size=(20, 3)), [0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]):
        pose, points = CameraPose.above_plane(normal, 2.0), rng.normal(size=(5, 3))
        assert np.allclose(pose.axes @ pose.axes.T, np.eye(3)) and np.linalg.det(pose.axes) == pytest.approx(1)
        assert np.allclose(pose.to_camera(pose.to_scene(points)), points)
        height = (points @ np.asarray(normal) + 2.0) / np.linalg.norm(normal)
        assert np.allclose(pose.to_scene(points)[:, 2], height)


def test_an_annotated_graph_gives_the_same_questions_as_a_drawn_one(drawn):
    """The world of annotations has another origin and another direction of x; no question depends on them."""
    for k, scene in enumerate(drawn):
        graphs = [scene.graph, annotated_graph(scene)]
        for one, other in zip(*(questions_of(graph, k) for graph in graphs), strict=True):
            assert [item.region for item in one.objects] == [item.region for item in other.objects]
            assert one.category == other.category and one.official_template == other.official_template
            if isinstance(one.normalized_answer, float):
                assert other.normalized_answer == pytest.approx(one.normalized_answer, abs=0.011)
            else:
                assert other.normalized_answer == one.normalized_answer


def test_a_measured_graph_agrees_with_the_drawn_one(drawn):
    """What is measured is the visible surface: sides are the same, lengths and containment nearly always about the same."""
    agree = collections.defaultdict(list)
    for scene in drawn:
        graph = measured_graph(scene, floor_pose(scene))
        assert [item.region for item in graph.objects] == [item.region for item in scene.graph.objects] and graph.has_plane
        truth = dict(zip(graph.objects, scene.graph.objects, strict=True))
        for item, drawn_item in truth.items():
            agree["flat"].append(item.is_flat == drawn_item.is_flat)
            agree["camera"].append(graph.camera_distance_m(item) == pytest.approx(scene.graph.camera_distance_m(drawn_item), rel=0.1))
            agree["width"].append(item.width_m == pytest.approx(drawn_item.width_m, rel=0.25))
            if drawn_item.height_m is not None and item.height_m is not None:
                agree["height"].append(item.height_m == pytest.approx(drawn_item.height_m, rel=0.25))
        for a, b in itertools.permutations(graph.objects, 2):
            agree["side"].append(side_of(a, b) == side_of(truth[a], truth[b]))
            agree["inside" if stands_in(truth[a], truth[b]) else "outside"].append(stands_in(a, b) == stands_in(truth[a], truth[b]))
            agree["vertical"].append(vertical_distance_m(a, b) == pytest.approx(vertical_distance_m(truth[a], truth[b]), abs=0.25))
            agree["distance"].append(distance_m(a, b) == pytest.approx(distance_m(truth[a], truth[b]), rel=0.1, abs=0.1))
    rates = {name: float(np.mean(values)) for name, values in agree.items()}
    assert rates["side"] == 1 and rates["flat"] > 0.97 and rates["outside"] > 0.97 and rates["camera"] > 0.97, rates
    assert rates["distance"] > 0.9 and rates["vertical"] > 0.9 and rates["inside"] > 0.9, rates
    assert rates["width"] > 0.9 and rates["height"] > 0.85, rates


def test_a_measured_graph_is_asked_all_kinds(drawn):
    """The makers read a measured graph like a drawn one: the same kinds, every answer with a value."""
    for k, scene in enumerate(drawn[:3]):
        graphs = scene.graph, measured_graph(scene, floor_pose(scene))
        kinds = [{question.category for question in questions_of(graph, k)} for graph in graphs]
        assert len(kinds[0] & kinds[1]) >= 0.85 * len(kinds[0] | kinds[1]), kinds


def test_without_a_plane_nothing_is_asked_that_needs_one(drawn):
    needs_plane = {"width", "height", "vertical", "horizontal", "count", "inside", "insides"}
    for k, scene in enumerate(drawn[:3]):
        asked = {question.category for question in questions_of(measured_graph(scene, None), k)}
        assert not asked & needs_plane and {"left_right", "distance", "mcq", "camera_distance"} <= asked


def test_what_a_footprint_covers():
    """A box turned by 45 degrees, and the same place as measured points."""
    region = generate_scene(3).regions[0].region

    def make(center, **geometry):
        return SceneObject("x", "x", region, (0.0, 0.0), np.array(center), **geometry)

    corners = np.array([[0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, -2.0, 0.0], [-2.0, 0.0, 0.0]])
    size = (2 * math.sqrt(2), 2 * math.sqrt(2), 0.0)
    box = make([0.0, 0.0, 0.0], size_m=size, yaw_rad=math.pi / 4)
    points = make([0.0, 0.0, 0.0], size_m=size, yaw_rad=math.pi / 4, points_m=corners)
    unknown = make([0.0, 0.0, 0.0], size_m=size)
    for x, y, inside in ((0.9, 0.9, True), (0.0, 1.9, True), (1.1, 1.1, False), (-2.1, 0.0, False), (1.9, 1.9, False)):
        item = make([x, y, 0.3], size_m=(0.1, 0.1, 0.6), yaw_rad=0.0)
        assert box.covers(item) == points.covers(item) == inside and not unknown.covers(item)
    assert box.is_flat and box.height_m is None and box.width_m == 2.83
