"""Frames, maps, histories and refusals of a nuScenes root, on the synthetic one.

Its scene-0061 has a whole CAN bus, its scene-0103 not.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import view_points
from synthetic_root import JUDGED, TRAIN, VERSION, copy_root

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.scenes.base import NOT_SAID, Frame, inverse, move, pose
from stages.scenes.ego_history import CanState, histories, nearest, read_can_states
from stages.scenes.nuscenes import Scenes, open_scenes

DRIVABLE = Path(__file__).parents[1] / "planning" / "omnidrive_drivable.npz"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return open_scenes(copy_root(tmp_path_factory.mktemp("nuscenes")), VERSION)


def test_tokens_follow_the_scenes_of_a_split_in_time(scenes: Scenes) -> None:
    assert scenes.split("synth_train") == [TRAIN]
    tokens = scenes.tokens("synth_train")
    times = [scenes.frame(token).timestamp_us for token in tokens]
    assert len(tokens) == 14
    assert np.diff(times).tolist() == [500_000] * 13


def test_a_frame_holds_the_recorded_future_in_its_own_ego_frame(scenes: Scenes) -> None:
    frame = scenes.frame(scenes.tokens("synth_train")[0])
    assert frame.complete
    assert frame.speed_mps == 6.0  # the CAN bus of this scene says 6 m/s
    assert np.linalg.norm(frame.future_ego_m[0]) == pytest.approx(3.0, abs=0.02)
    assert (np.diff(frame.future_ego_m[:, 0]) > 2.9).all()
    assert len(frame.future_boxes) == 6
    assert frame.future_boxes[0].instances[0] == frame.boxes.instances[0]
    late = scenes.frame(scenes.tokens("synth_train")[-3])
    assert np.isnan(late.future_ego_m[:, 0]).tolist() == [False, False, True, True, True, True]
    assert (late.complete, len(late.future_boxes)) == (False, 2)


def test_cameras_see_boxes_where_the_devkit_sees_them(scenes: Scenes) -> None:
    tables = NuScenes(VERSION, dataroot=str(scenes.root), verbose=False)
    frame = scenes.frame(scenes.tokens("synth_train")[4])
    for camera in frame.cameras.values():
        path, expected, intrinsic = tables.get_sample_data(camera.token, box_vis_level=0)
        assert Path(path) == camera.path
        for box in expected:
            row = frame.boxes.instances.index(tables.get("sample_annotation", box.token)["instance_token"])
            center = move(camera.camera_from_global, frame.boxes.centers_m[row])
            np.testing.assert_allclose(center, box.center, atol=1e-9)
            pixel = view_points(box.center[:, None], intrinsic, normalize=True)[:2, 0]
            np.testing.assert_allclose((camera.intrinsic @ center)[:2] / center[2], pixel, atol=1e-6)


def test_drivable_masks_equal_those_of_omnidrive(scenes: Scenes) -> None:
    case = np.load(DRIVABLE, allow_pickle=False)
    frame = scenes.frame(scenes.tokens("synth_train")[0])
    for row, packed in enumerate(case["drivable_packed"]):
        ego = pose(case["translation"][row], case["rotation"][row])
        mask = scenes.drivable_mask(replace(frame, location=str(case["location"][row]), global_from_ego=ego))
        np.testing.assert_array_equal(mask, np.unpackbits(packed, axis=-1).astype(bool))


def test_map_polygons_are_cut_to_the_circle(scenes: Scenes) -> None:
    frame = scenes.frame(scenes.tokens("synth_train")[0])
    center = frame.global_from_ego[:2, 3]
    pieces = scenes.map_polygons(frame.location, ("drivable_area", "ped_crossing"), center, 45.0)
    assert [layer for layer, _, _ in pieces] == ["drivable_area", "ped_crossing"]
    for _, exterior, _ in pieces:
        assert np.linalg.norm(exterior - center, axis=1).max() <= 45.0 + 1e-6
    cell_m = (np.arange(1000) - 499.5) / 10
    mask = scenes.drivable_mask(frame) & (np.hypot(*np.meshgrid(cell_m, cell_m)) < 45)  # the devkit's raster, 0.1 m
    _, exterior, holes = pieces[0]
    assert shapely.Polygon(exterior, holes).area == pytest.approx(mask.sum() / 100, rel=0.02)


def test_a_traffic_light_is_a_box_around_its_bulbs(scenes: Scenes) -> None:
    lights = scenes.traffic_lights("singapore-onenorth", np.array([427.6, 1105.4]), 10.0)
    assert lights.categories == ("traffic_light",)
    np.testing.assert_allclose(lights.centers_m[0], [427.635982, 1105.408556, 5.0], atol=1e-6)  # its one bulb
    np.testing.assert_allclose(lights.sizes_wlh_m[0], [0.26, 0.26, 0.26])
    assert len(scenes.traffic_lights("singapore-onenorth", np.array([0.0, 0.0]), 10.0)) == 0


def test_speed_comes_from_ego_poses_where_there_is_no_can_bus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = copy_root(tmp_path)
    for path in (root / "can_bus").iterdir():
        path.unlink()
    (root / "can_bus").rmdir()
    scenes = open_scenes(root, VERSION)
    assert "speeds are taken from ego poses" in caplog.text
    first, second = (scenes.frame(token).speed_mps for token in scenes.tokens("synth_train")[:2])
    assert first == pytest.approx(6.0, abs=0.02)
    assert second == pytest.approx(6.0, abs=0.02)


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
    bare = open_scenes(with_roads(scenes.root, [], []), VERSION)
    assert bare.surroundings(frame).curbs_m.shape == (0, 2, 2)


def test_unknown_splits_scenes_and_tokens_are_refused_by_name(scenes: Scenes) -> None:
    with pytest.raises(ParamsError, match="synth_train, synth_val, both"):
        scenes.split("synth_trian")
    with pytest.raises(DataError, match="1 of them"):  # mini_val is scene-0103 and scene-0916
        scenes.split("mini_val")
    with pytest.raises(DataError, match="nonsense"):
        scenes.frame("nonsense")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "may be one of: v2": lambda root: (root / VERSION).rename(root / "v2"),
    r"map image .*\.png": lambda root: [path.unlink() for path in (root / "maps").glob("*.png")],
    r"sample_annotation\.json, got \d+ bytes": lambda root: _half(root / VERSION / "sample_annotation.json"),
    r"no instance\.json": lambda root: (root / VERSION / "instance.json").unlink(),
    "a token that no table holds": lambda root: (root / VERSION / "instance.json").write_text(
        json.dumps([{"token": "x", "category_token": "y"}])
    ),
    r"sample\.json of \d+ bytes": lambda root: (
        io.write_manifest(root, [root / VERSION / "sample.json"], {}),
        _half(root / VERSION / "sample.json"),
    ),
    "nuScenes root": lambda root: root.rename(root.with_name("elsewhere")),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_missing_or_damaged_part_of_a_root_is_named(message: str, tmp_path: Path) -> None:
    root = copy_root(tmp_path / "root")
    DAMAGES[message](root)
    with pytest.raises(DataError, match=message):
        open_scenes(root, VERSION)


def test_what_is_missing_later_is_named_when_it_is_read(tmp_path: Path) -> None:
    scenes = open_scenes(copy_root(tmp_path), VERSION)
    token, judged = scenes.tokens("synth_train")[0], scenes.frame(scenes.tokens("synth_val")[0])
    (tmp_path / "maps" / "expansion" / "boston-seaport.json").unlink()
    with pytest.raises(DataError, match=r"boston-seaport\.json, got no such file"):
        scenes.drivable_mask(judged)
    path = scenes.frame(token).cameras["CAM_BACK"].path
    path.write_bytes(b"")
    with pytest.raises(DataError, match=f"{path.name} .*, got an empty file"):
        scenes.frame(token)
    _half(tmp_path / "can_bus" / f"{JUDGED}_pose.json")
    with pytest.raises(DataError, match=f"{JUDGED}_pose.json"):
        open_scenes(tmp_path, VERSION).frame(judged.token)


def frames_of(scenes: Scenes, scene: str) -> list[Frame]:
    return [scenes.frame(token) for token in scenes.tokens_of_scene(scene)]


def test_a_history_grows_to_three_seconds_of_lidar_positions_x_forward_y_left(scenes: Scenes) -> None:
    frames = frames_of(scenes, TRAIN)
    found = histories(frames, None)
    assert [len(found[frame.token]) for frame in frames] == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7]
    steps = found[frames[8].token]
    assert [step.seconds_ago for step in steps] == [3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0]
    assert {step.can for step in steps} == {None}
    now = frames[8].global_from_ego @ frames[8].ego_from_lidar
    for step, frame in zip(steps, frames[2:9], strict=True):
        right, forward, _ = np.linalg.inv(now) @ (frame.global_from_ego @ frame.ego_from_lidar)[:, 3] @ np.eye(4, 3)
        np.testing.assert_allclose(step.xy_m, [forward, -right], atol=6e-4)
    ahead = np.array([step.xy_m[0] for step in steps])
    np.testing.assert_allclose(np.diff(ahead), 3.0, atol=0.05)  # 6 m/s, half a second each


def test_the_can_bus_says_what_the_devkit_reads(scenes: Scenes) -> None:
    times_us = [frame.timestamp_us for frame in frames_of(scenes, TRAIN)]
    states = read_can_states(scenes.root, TRAIN, times_us)
    assert states is not None
    assert len(states) == 14
    pose = NuScenesCanBus(dataroot=str(scenes.root)).get_messages(TRAIN, "pose")[0]
    assert states[0] == CanState(tuple(pose["accel"][:2]), pose["vel"][0], 0.03)


def test_of_two_messages_equally_near_the_later_counts() -> None:
    assert nearest([0, 20, 40], [-5, 9, 10, 11, 30, 99]) == [0, 0, 1, 1, 2, 2]


def test_a_scene_without_can_bus_has_no_states(scenes: Scenes, tmp_path: Path) -> None:
    assert read_can_states(scenes.root, JUDGED, [0]) is None  # it lacks the steering
    assert read_can_states(tmp_path, TRAIN, [0]) is None  # no folder
    (tmp_path / "can_bus").mkdir()
    for name in ("pose", "steeranglefeedback"):
        shutil.copy(scenes.root / "can_bus" / f"{TRAIN}_{name}.json", tmp_path / "can_bus" / f"scene-0161_{name}.json")
    assert read_can_states(tmp_path, "scene-0161", [0]) is None  # on the devkit's list of scenes without one
    assert read_can_states(tmp_path, "scene-1", [0]) is None


@pytest.mark.parametrize("text", ['[{"utime": 1, "accel": [0, 0]}]', "[{", "[]", '{"utime": 1}'])
def test_damaged_messages_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "can_bus").mkdir()
    (tmp_path / "can_bus" / "scene-0001_pose.json").write_text(text)
    (tmp_path / "can_bus" / "scene-0001_steeranglefeedback.json").write_text(json.dumps([{"utime": 1, "value": 0.1}]))
    with pytest.raises(DataError, match=r"CAN bus messages.*scene-0001_pose.json.*copy them again"):
        read_can_states(tmp_path, "scene-0001", [5])
