import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root

from stages.scenes.base import NOT_SAID, inverse, move, pose
from stages.scenes.nuscenes import Scenes, open_scenes


def test_marks_are_those_of_the_annotations(scenes: Scenes) -> None:
    records = json.loads((scenes.root / VERSION / "sample_annotation.json").read_text())
    frame = scenes.frame(scenes.tokens_of_scene(TRAIN)[0])
    marks = scenes.surroundings(frame).marks
    assert len(marks) == 7
    for step, (boxes, mark) in enumerate(zip((frame.boxes, *frame.future_boxes), marks, strict=True)):
        token = scenes.tokens_of_scene(TRAIN)[step]
        expected = {r["instance_token"]: r for r in records if r["sample_token"] == token}
        assert mark.lidar_points.tolist() == [expected[name]["num_lidar_pts"] for name in boxes.instances]
        assert mark.visibilities.tolist() == [int(expected[name]["visibility_token"]) for name in boxes.instances]


def test_an_instance_is_seen_before_in_the_two_key_frames_before(scenes: Scenes) -> None:
    frames = [scenes.frame(token) for token in scenes.tokens_of_scene(TRAIN)[:4]]
    around = [scenes.surroundings(frame) for frame in frames]
    assert [each.past_steps for each in around] == [0, 1, 2, 3]
    assert around[0].seen_before == frozenset()
    expected = {
        name
        for step in (1, 2)
        for name, level in zip(frames[step].boxes.instances, around[step].marks[0].visibilities, strict=True)
        if level != 1
    }
    assert around[3].seen_before == expected != set()


def test_what_a_table_leaves_out_is_not_said(tmp_path: Path) -> None:
    table = copy_root(tmp_path) / VERSION / "sample_annotation.json"
    records = json.loads(table.read_text())
    for record in records:
        record["visibility_token"] = ""
        del record["num_radar_pts"]
    table.write_text(json.dumps(records))
    scenes = open_scenes(tmp_path, VERSION)
    marks = scenes.surroundings(scenes.frame(scenes.tokens_of_scene(TRAIN)[0])).marks[0]
    assert {*marks.visibilities.tolist(), *marks.radar_points.tolist()} == {NOT_SAID}
    assert min(marks.lidar_points) >= 0


def test_the_lidar_goes_another_way_than_the_imu_on_a_turn(scenes: Scenes) -> None:
    frame = scenes.frame(scenes.tokens_of_scene(TRAIN)[0])
    path_m = scenes.surroundings(frame).future_lidar_m
    later = scenes.frame(scenes.tokens_of_scene(TRAIN)[6])
    lidar_at = (later.global_from_ego @ later.ego_from_lidar)[:3, 3]
    expected = move(inverse(frame.global_from_ego @ frame.ego_from_lidar), lidar_at)
    np.testing.assert_allclose(path_m[5], expected[:2], atol=1e-9)
    assert 0.001 < np.linalg.norm(path_m[5] - [-frame.future_ego_m[5, 1], frame.future_ego_m[5, 0]]) < 1


def with_roads(root: Path, rings_m: list[list[tuple[float, float]]], layers: list[str]) -> Path:
    """Every location of the root with these polygons, in metres from (400, 1100), as its roads."""
    for path in (root / "maps" / "expansion").glob("*.json"):
        tables = json.loads(path.read_text())
        tables |= {"road_segment": [], "lane": []}
        for number, (ring, layer) in enumerate(zip(rings_m, layers, strict=True)):
            nodes = [{"token": f"n{number}.{i}", "x": 400 + x, "y": 1100 + y} for i, (x, y) in enumerate(ring)]
            tables["node"] += nodes
            tokens = [node["token"] for node in nodes]
            tables["polygon"].append({"token": f"p{number}", "exterior_node_tokens": tokens, "holes": []})
            sides = {f"{side}_lane_divider_segments": [] for side in ("left", "right")}
            tables[layer].append({"token": f"r{number}", "polygon_token": f"p{number}", **sides})
        path.write_text(json.dumps(tables))
    return root


def test_curbs_are_the_outline_of_roads_and_lanes_together_turned_with_the_ego(tmp_path: Path) -> None:
    """Two pieces of a road 10 m wide along global y, its ends beyond the patch: a curb 3 m left, one 7 m right."""
    halves = [[(-3, -90), (7, -90), (7, 1), (-3, 1)], [(-3, 0), (7, 0), (7, 90), (-3, 90)]]
    scenes = open_scenes(with_roads(copy_root(tmp_path), halves, ["road_segment", "lane"]), VERSION)
    frame = scenes.frame(scenes.tokens_of_scene(JUDGED)[0])
    ego = pose(np.array([400.0, 1100, 0]), np.array([np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)]))
    curbs_m = scenes.surroundings(replace(frame, global_from_ego=ego)).curbs_m
    assert curbs_m.shape == (38, 2, 2)  # 19 lines on each side, none where the two pieces meet
    assert sorted({*curbs_m[:, :, 1].round(9).ravel().tolist()}) == [-7, 3]
    assert np.abs(curbs_m[:, :, 0]).max() == pytest.approx(51.0)
    np.testing.assert_allclose(np.abs(np.diff(curbs_m[:, :, 0], axis=1)), 102 / 19)


def test_a_map_without_roads_has_no_curbs(tmp_path: Path) -> None:
    scenes = open_scenes(with_roads(copy_root(tmp_path), [], []), VERSION)
    assert scenes.surroundings(scenes.frame(scenes.tokens_of_scene(JUDGED)[0])).curbs_m.shape == (0, 2, 2)
