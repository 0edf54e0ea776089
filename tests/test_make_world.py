"""The stage that draws the world, checked with the devkit that reads it."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params
from stages.make_world import main
from stages.scenes.base import CAMERAS
from stages.scenes.layout import NO_CAN, read_events
from stages.scenes.world.recording import CATEGORIES, scene_names
from stages.scenes.world.scenario import LOCATIONS, simulate

pytestmark = pytest.mark.process

SCENES, STEPS, SEED = 4, 8, 72  # scene i is at location (SEED + i) mod 4
SMALL = {"train_scenes": 1, "val_scenes": 1, "samples_per_scene": 2, "workers": 1}


def _params(folder: Path, **changes: int) -> Params:
    params = read_params(Path(__file__).parents[1] / "params.yaml")
    sizes = {
        "seed": SEED,
        "train_scenes": 3,
        "val_scenes": 1,
        "samples_per_scene": STEPS,
        "size_px": (112, 64),
    } | changes
    places = {"root": str(folder / "world"), "oracle_root": str(folder / "oracle")}
    drawn, scenes = params.make_world.model_copy(update=sizes), params.scenes.model_copy(update=places)
    return params.model_copy(update={"make_world": drawn, "scenes": scenes})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds `world` and `oracle`."""
    folder = tmp_path_factory.mktemp("drawn")
    main(_params(folder))
    return folder


@pytest.fixture(scope="module")
def nusc(world: Path) -> Any:
    from nuscenes import NuScenes

    return NuScenes("v1.0-mini", str(world / "world"), verbose=False)


def _chain(nusc: Any, table: str, first: str) -> list[dict[str, Any]]:
    """The records from the first to the last; each names the one before it."""
    records, previous, name = [], "", first
    while name:
        records.append(nusc.get(table, name))
        assert records[-1]["prev"] == previous
        previous, name = name, records[-1]["next"]
    return records


def test_tables_have_nuscenes_categories_and_chains_run_from_first_to_last(nusc: Any) -> None:
    from nuscenes.utils.splits import get_scenes_of_split

    assert (len(nusc.scene), len(nusc.sample), len(nusc.ego_pose)) == (SCENES, SCENES * STEPS, SCENES * STEPS * 7)
    assert tuple(record["name"] for record in nusc.category) == CATEGORIES
    assert [CATEGORIES.index(f"vehicle.{name}") for name in ("car", "trailer")] == [8, 17]
    assert [len(get_scenes_of_split(name, nusc)) for name in ("world_train", "world_val")] == [3, 1]
    for index, scene in enumerate(nusc.scene):
        samples = _chain(nusc, "sample", scene["first_sample_token"])
        assert (len(samples), samples[-1]["token"]) == (scene["nbr_samples"], scene["last_sample_token"])
        assert scene["description"] == simulate(SEED + index, STEPS).description
        for channel in (*CAMERAS, "LIDAR_TOP"):
            data = _chain(nusc, "sample_data", samples[0]["data"][channel])
            assert [each["sample_token"] for each in data] == [sample["token"] for sample in samples]
    for instance in nusc.instance:
        boxes = _chain(nusc, "sample_annotation", instance["first_annotation_token"])
        assert {box["instance_token"] for box in boxes} == {instance["token"]}
        assert (len(boxes), boxes[-1]["token"]) == (instance["nbr_annotations"], instance["last_annotation_token"])


def test_numbers_are_written_with_so_few_digits_that_every_cpu_writes_the_same(world: Path) -> None:
    folder = world / "world"
    for path in (folder / "v1.0-mini" / "ego_pose.json", *folder.glob("can_bus/*"), *folder.glob("maps/expansion/*")):
        digits = [len(number) for number in re.findall(r"\d\.(\d+)", path.read_text())]
        assert max(digits) <= 9
        assert not re.search(r"-0\.0\b", path.read_text())


def _ego_pose(nusc: Any, sample: dict[str, Any]) -> dict[str, Any]:
    return nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])


def test_waypoints_from_the_tables_are_the_scenarios(nusc: Any) -> None:
    from pyquaternion import Quaternion

    for index, scene in enumerate(nusc.scene):
        scenario = simulate(SEED + index, STEPS)
        poses = [_ego_pose(nusc, sample) for sample in _chain(nusc, "sample", scene["first_sample_token"])]
        places = [pose["translation"] for pose in poses]
        for step in range(STEPS - 6):
            turn = Quaternion(poses[step]["rotation"]).inverse
            away = [turn.rotate(np.subtract(p, places[step]))[:2] for p in places[step + 1 : step + 7]]
            np.testing.assert_allclose(away, scenario.future_ego_m(step), atol=2e-6)


@pytest.mark.parametrize("location", LOCATIONS)
def test_the_map_shows_the_drawn_road(world: Path, nusc: Any, location: str) -> None:
    from nuscenes.map_expansion.map_api import NuScenesMap
    from pyquaternion import Quaternion

    layers = NuScenesMap(str(world / "world"), location)
    index = next(i for i in range(SCENES) if LOCATIONS[(SEED + i) % 4] == location)
    pose = _ego_pose(nusc, nusc.get("sample", nusc.scene[index]["first_sample_token"]))
    yaw = Quaternion(pose["rotation"]).yaw_pitch_roll[0]
    patch = (*pose["translation"][:2], 100.0, 100.0)
    mask = layers.get_map_mask(patch, np.rad2deg(yaw), ["drivable_area"], (500, 500))[0]
    scenario = simulate(SEED + index, STEPS)
    expected = np.zeros((500, 500), np.uint8)  # row 0 is 50 m to the right
    x, y, heading = scenario.ego_poses[0]
    for ring in (scenario.road.main_ring(), *scenario.road.side_rings()):
        c, s = np.cos(heading), np.sin(heading)
        ego = (ring - (x, y)) @ np.array([[c, -s], [s, c]])
        cv2.fillPoly(expected, [np.rint((ego + 50) * 5).astype(np.int32)], 1)
    assert (mask & expected).sum() / (mask | expected).sum() > 0.98
    assert 0.05 < expected.mean() < 0.6


def test_the_can_bus_has_speed_and_steering(world: Path, nusc: Any) -> None:
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    bus = NuScenesCanBus(str(world / "world"))
    for index, scene in enumerate(nusc.scene):
        poses, steering = (bus.get_messages(scene["name"], name) for name in ("pose", "steeranglefeedback"))
        assert np.allclose(np.diff([message["utime"] for message in poses]), 20_000)
        assert np.allclose(np.diff([message["utime"] for message in steering]), 10_000)
        speeds = simulate(SEED + index, STEPS).speed_mps
        np.testing.assert_allclose([message["vel"][0] for message in poses[::25]], speeds, atol=1e-6)
        assert np.abs([message["value"] for message in steering]).max() < 7.7
        ego = _ego_pose(nusc, nusc.get("sample", scene["first_sample_token"]))
        np.testing.assert_allclose(poses[0]["pos"], ego["translation"], atol=1e-6)
    assert set(bus.can_blacklist) == NO_CAN
    names = scene_names(400)
    assert len(set(names)) == 400
    assert not NO_CAN & {int(name[-4:]) for name in names}


def test_the_lidar_sees_what_is_annotated(nusc: Any) -> None:
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    path, boxes, _ = nusc.get_sample_data(nusc.sample[2]["data"]["LIDAR_TOP"])
    cloud = LidarPointCloud.from_file(path)
    assert len(boxes) > 5
    for box in boxes:
        counted = nusc.get("sample_annotation", box.token)["num_lidar_pts"]
        assert counted > 0
        assert points_in_box(box, cloud.points[:3], wlh_factor=1.001).sum() >= counted


def test_images_class_maps_and_events_are_those_of_the_tables_and_sealed(world: Path, nusc: Any) -> None:
    for record in nusc.sample_data[::5]:
        if record["fileformat"] == "jpg":
            image = cv2.imread(str(world / "world" / record["filename"]))
            assert image.shape == (record["height"], record["width"], 3)
            scene = nusc.get("scene", nusc.get("sample", record["sample_token"])["scene_token"])["name"]
            truth = cv2.imread(str(world / "oracle" / scene / f"{record['token']}.png"), cv2.IMREAD_UNCHANGED)
            assert truth.shape == image.shape[:2]
            assert truth.max() <= 5
    events = read_events(world / "oracle")
    for index, scene in enumerate(nusc.scene):
        scenario = simulate(SEED + index, STEPS)
        for step, sample in enumerate(_chain(nusc, "sample", scene["first_sample_token"])):
            assert events.pop(sample["token"]) == scenario.event(step)
    assert not events
    notes = io.read_manifest(world / "world", "dvc repro make_world")
    assert notes["images"] == SCENES * STEPS * 6
    assert notes["oracle_manifest_sha256"] == io.sha256(world / "oracle" / "manifest.json")
    listed = json.loads((world / "world" / "manifest.json").read_text())["files"]
    there = {str(p.relative_to(world / "world")) for p in (world / "world").rglob("*") if p.is_file()}
    assert there == {*listed, "manifest.json"}
    io.read_manifest(world / "oracle", "dvc repro make_world")
    with pytest.raises(DataError, match="dvc repro make_world"):
        read_events(world)


def _digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.process
def test_workers_change_no_byte_and_another_run_replaces_all(tmp_path: Path) -> None:
    main(_params(tmp_path, **SMALL))
    before = _digest(tmp_path)
    (tmp_path / "world" / "samples" / "CAM_FRONT" / "stale.jpg").write_bytes(b"of an interrupted run")
    main(_params(tmp_path, **(SMALL | {"workers": 2})))
    assert _digest(tmp_path) == before


def test_data_that_it_has_not_drawn_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "world" / "v1.0-trainval").mkdir(parents=True)
    with pytest.raises(DataError, match="files that make_world has not drawn"):
        main(_params(tmp_path))
    assert (tmp_path / "world" / "v1.0-trainval").is_dir()
    params = _params(tmp_path / "other")
    params = params.model_copy(update={"scenes": params.scenes.model_copy(update={"oracle_root": None})})
    with pytest.raises(ParamsError, match="oracle_root"):
        main(params)
