"""The stage that draws the world, judged with the devkit that reads it."""

import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.params import Params, read_params
from stages.make_world import main
from stages.scenes.base import CAMERAS
from stages.scenes.oracle import EVENTS_FILE, read_events
from stages.scenes.world.scenario import LOCATIONS, simulate
from stages.scenes.world.setting import main_ring
from stages.scenes.world.tables import CATEGORIES, scene_names

SCENES, STEPS, SEED = 4, 8, 72  # scene i is at location (SEED + i) mod 4
SMALL = {"train_scenes": 1, "val_scenes": 1, "samples_per_scene": 2, "workers": 1}


def _params(folder: Path, **changes: int) -> Params:
    params = read_params(Path(__file__).parents[1] / "params.yaml")
    sizes = {"seed": SEED, "train_scenes": 3, "val_scenes": 1, "samples_per_scene": STEPS, "workers": 2, **changes}
    places = {"root": str(folder / "world"), "oracle_root": str(folder / "oracle")}
    return params.model_copy(
        update={
            "make_world": params.make_world.model_copy(update=sizes),
            "scenes": params.scenes.model_copy(update=places),
        }
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds `world` and `oracle`."""
    folder = tmp_path_factory.mktemp("drawn")
    main(_params(folder))
    return folder


@pytest.fixture(scope="module")
def nusc(world: Path):  # type: ignore[no-untyped-def]
    from nuscenes import NuScenes

    return NuScenes("v1.0-mini", str(world / "world"), verbose=False)


def test_the_devkit_loads_thirteen_tables_with_nuscenes_categories(nusc) -> None:  # type: ignore[no-untyped-def]
    assert len(nusc.scene) == SCENES
    assert len(nusc.sample) == SCENES * STEPS
    assert len(nusc.sample_data) == len(nusc.ego_pose) == SCENES * STEPS * 7
    assert tuple(record["name"] for record in nusc.category) == CATEGORIES
    assert [CATEGORIES.index(f"vehicle.{name}") for name in ("car", "trailer")] == [8, 17]
    assert len(nusc.map) == 4


def test_chains_run_from_first_to_last(nusc) -> None:  # type: ignore[no-untyped-def]
    for scene in nusc.scene:
        chain, name = [], scene["first_sample_token"]
        while name:
            chain.append(name)
            name = nusc.get("sample", name)["next"]
        assert (len(chain), chain[-1]) == (scene["nbr_samples"], scene["last_sample_token"])
        for channel in (*CAMERAS, "LIDAR_TOP"):
            data = nusc.get("sample_data", nusc.get("sample", chain[0])["data"][channel])
            seen = [data["sample_token"]]
            while data["next"]:
                assert nusc.get("sample_data", data["next"])["prev"] == data["token"]
                data = nusc.get("sample_data", data["next"])
                seen.append(data["sample_token"])
            assert seen == chain
    for instance in nusc.instance:
        name, previous, count = instance["first_annotation_token"], "", 0
        while name:
            record = nusc.get("sample_annotation", name)
            assert (record["instance_token"], record["prev"]) == (instance["token"], previous)
            previous, name, count = name, record["next"], count + 1
        assert (count, previous) == (instance["nbr_annotations"], instance["last_annotation_token"])


def test_custom_splits_share_out_the_scenes(nusc) -> None:  # type: ignore[no-untyped-def]
    from nuscenes.utils.splits import get_scenes_of_split

    train, val = (get_scenes_of_split(name, nusc) for name in ("world_train", "world_val"))
    assert (len(train), len(val)) == (3, 1)
    assert {*train, *val} == {scene["name"] for scene in nusc.scene}


def test_waypoints_from_the_tables_are_the_scenarios(nusc) -> None:  # type: ignore[no-untyped-def]
    from pyquaternion import Quaternion

    for index, scene in enumerate(nusc.scene):
        scenario = simulate(SEED + index, STEPS)
        places, turns, name = [], [], scene["first_sample_token"]
        while name:
            sample = nusc.get("sample", name)
            data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
            pose = nusc.get("ego_pose", data["ego_pose_token"])
            places.append(pose["translation"])
            turns.append(Quaternion(pose["rotation"]))
            name = sample["next"]
        for step in range(STEPS - 6):
            away = [turns[step].inverse.rotate(np.subtract(p, places[step]))[:2] for p in places[step + 1 : step + 7]]
            np.testing.assert_allclose(away, scenario.future_ego_m(step), atol=1e-6)


@pytest.mark.parametrize("location", LOCATIONS)
def test_the_map_shows_the_drawn_road(world: Path, nusc, location: str) -> None:  # type: ignore[no-untyped-def]
    from nuscenes.map_expansion.map_api import NuScenesMap
    from pyquaternion import Quaternion

    layers = NuScenesMap(str(world / "world"), location)
    index = next(i for i in range(SCENES) if LOCATIONS[(SEED + i) % 4] == location)
    sample = nusc.get("sample", nusc.scene[index]["first_sample_token"])
    data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    pose = nusc.get("ego_pose", data["ego_pose_token"])
    yaw = Quaternion(pose["rotation"]).yaw_pitch_roll[0]
    patch = (*pose["translation"][:2], 100.0, 100.0)
    mask = layers.get_map_mask(patch, np.rad2deg(yaw), ["drivable_area"], (500, 500))[0]
    scenario = simulate(SEED + index, STEPS)
    wanted = np.zeros((500, 500), np.uint8)  # row 0 is 50 m to the right
    x, y, heading = scenario.ego_poses[0]
    for ring in (main_ring(scenario.road), *scenario.road.side_rings()):
        c, s = np.cos(heading), np.sin(heading)
        ego = (ring - (x, y)) @ np.array([[c, -s], [s, c]])
        cv2.fillPoly(wanted, [np.rint((ego + 50) * 5).astype(np.int32)], 1)
    overlap = (mask & wanted).sum() / (mask | wanted).sum()
    assert overlap > 0.98
    assert 0.05 < wanted.mean() < 0.6


def test_the_bus_tells_speed_and_steering(world: Path, nusc) -> None:  # type: ignore[no-untyped-def]
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    bus = NuScenesCanBus(str(world / "world"))
    for index, scene in enumerate(nusc.scene):
        poses = bus.get_messages(scene["name"], "pose")
        steering = bus.get_messages(scene["name"], "steeranglefeedback")
        assert np.allclose(np.diff([message["utime"] for message in poses]), 20_000)
        assert np.allclose(np.diff([message["utime"] for message in steering]), 10_000)
        scenario = simulate(SEED + index, STEPS)
        np.testing.assert_allclose([message["vel"][0] for message in poses[::25]], scenario.speed_mps, atol=1e-9)
        assert np.abs([message["value"] for message in steering]).max() < 7.7
        start = nusc.get("sample", scene["first_sample_token"])
        data = nusc.get("sample_data", start["data"]["LIDAR_TOP"])
        ego = nusc.get("ego_pose", data["ego_pose_token"])
        np.testing.assert_allclose(poses[0]["pos"], ego["translation"], atol=1e-6)


def test_the_lidar_sees_what_is_annotated(nusc) -> None:  # type: ignore[no-untyped-def]
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    sample = nusc.sample[2]
    path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
    cloud = LidarPointCloud.from_file(path)
    assert len(boxes) > 5
    for box in boxes:
        counted = nusc.get("sample_annotation", box.token)["num_lidar_pts"]
        assert counted > 0
        assert points_in_box(box, cloud.points[:3], wlh_factor=1.001).sum() >= counted


def test_images_and_class_maps_are_as_large_as_the_tables_say(world: Path, nusc) -> None:  # type: ignore[no-untyped-def]
    for record in nusc.sample_data:
        if record["fileformat"] == "jpg":
            image = cv2.imread(str(world / "world" / record["filename"]))
            assert image.shape == (record["height"], record["width"], 3)
            scene = nusc.get("scene", nusc.get("sample", record["sample_token"])["scene_token"])["name"]
            truth = cv2.imread(str(world / "oracle" / scene / f"{record['token']}.png"), cv2.IMREAD_UNCHANGED)
            assert truth.shape == image.shape[:2]
            assert truth.max() <= 5


def test_both_folders_are_sealed(world: Path) -> None:
    notes = io.read_manifest(world / "world", "dvc repro make_world")
    assert notes["images"] == SCENES * STEPS * 6
    assert notes["oracle_manifest_sha256"] == io.sha256(world / "oracle" / "manifest.json")
    listed = json.loads((world / "world" / "manifest.json").read_text())["files"]
    there = {str(p.relative_to(world / "world")) for p in (world / "world").rglob("*") if p.is_file()}
    assert there == {*listed, "manifest.json"}
    io.read_manifest(world / "oracle", "dvc repro make_world")


def test_the_oracle_tells_the_event_of_every_key_frame(world: Path, nusc) -> None:  # type: ignore[no-untyped-def]
    events = read_events(world / "oracle")
    for index, scene in enumerate(nusc.scene):
        scenario, name = simulate(SEED + index, STEPS), scene["first_sample_token"]
        for step in range(STEPS):
            assert events.pop(name) == scenario.event(step)
            name = nusc.get("sample", name)["next"]
    assert not events
    io.check_file(world / "oracle", EVENTS_FILE, "dvc repro make_world")


def test_the_scene_table_tells_the_conditions(nusc) -> None:  # type: ignore[no-untyped-def]
    described = [scene["description"] for scene in nusc.scene]
    assert described == [simulate(SEED + index, STEPS).description for index in range(SCENES)]


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        main(_params(tmp_path / str(workers), **(SMALL | {"workers": workers})))
    assert _digest(tmp_path / "1") == _digest(tmp_path / "2")


def test_another_seed_changes_the_identity_and_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    main(_params(tmp_path, **SMALL))
    before = (tmp_path / "world" / "v1.0-mini" / "identity.json").read_bytes()
    (tmp_path / "world" / "samples" / "CAM_FRONT" / "stale.jpg").write_bytes(b"of an interrupted run")
    main(_params(tmp_path, **(SMALL | {"seed": SEED + 1})))
    assert (tmp_path / "world" / "v1.0-mini" / "identity.json").read_bytes() != before
    assert not (tmp_path / "world" / "samples" / "CAM_FRONT" / "stale.jpg").exists()


def test_data_that_it_has_not_drawn_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "world" / "v1.0-trainval").mkdir(parents=True)
    with pytest.raises(DataError, match="files that make_world has not drawn"):
        main(_params(tmp_path))
    assert (tmp_path / "world" / "v1.0-trainval").is_dir()
    params = _params(tmp_path / "other")
    params = params.model_copy(update={"scenes": params.scenes.model_copy(update={"oracle_root": None})})
    with pytest.raises(ParamsError, match="oracle_root"):
        main(params)


def test_scene_names_are_those_the_bus_reader_takes(world: Path) -> None:
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    names = scene_names(400)
    assert len(set(names)) == 400
    assert all(re.fullmatch(r"scene-\d{4}", name) for name in names)
    assert not set(NuScenesCanBus(str(world / "world")).can_blacklist) & {int(name[-4:]) for name in names}
