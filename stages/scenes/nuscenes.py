"""A nuScenes data set on disk as typed frames and maps, read through nuscenes-devkit (1.2)."""

import logging
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ParamsError
from stages.core.io import read_json
from stages.scenes import layout
from stages.scenes.base import (
    CAMERAS,
    FUTURE_STEPS,
    NOT_SAID,
    STEP_S,
    Boxes,
    Camera,
    Frame,
    Marks,
    Surroundings,
    inverse,
    move,
    pose,
    yaw_rad,
)

if TYPE_CHECKING:
    from stages.scenes.maps import Location, Polygon

log = logging.getLogger(__name__)

DRIVABLE_PATCH_M = 100.0  # OmniDrive's patch and raster: 1000 x 1000 cells of 0.1 m around the ego
DRIVABLE_CELLS = 1000
SEEN_STEPS = 2  # ST-P3 sees now and two key frames before


def open_scenes(root: str | Path, version: str) -> "Scenes":
    """The data set in `root`. Raises DataError when a table, folder or map image is missing or half-copied."""
    root = Path(root)
    layout.check_root(root, version)
    if not (root / "can_bus").is_dir():
        log.warning("no %s: speeds are taken from ego poses", root / "can_bus")
    import matplotlib

    matplotlib.use("Agg")  # the devkit imports pyplot, whose default asks for a display
    # It draws ego poses with sklearn, which takes two seconds to import, pandas with it; nothing else there asks for it
    stand_ins = {"sklearn", "sklearn.metrics"} - sys.modules.keys()
    sys.modules.update({name: ModuleType(name) for name in stand_ins})
    try:
        from nuscenes.nuscenes import NuScenes
    finally:
        for name in stand_ins:
            del sys.modules[name]

    try:
        return Scenes(root, NuScenes(version=version, dataroot=str(root), verbose=False))
    except (ValueError, KeyError, IndexError) as error:
        for name in layout.TABLES:
            layout.read_table(root, version, name)  # names the one that is no JSON
        raise layout.missing(root, f"tables in {root / version}", "a token that no table holds") from error


class Scenes:
    """Frames by sample token, splits and maps of one data set. Reads only; maps and CAN bus are loaded at first use."""

    def __init__(self, root: Path, tables: Any) -> None:
        self.root = root
        self._tables = tables
        self._scene_by_name = {record["name"]: record for record in tables.scene}
        self._location = lru_cache(maxsize=None)(self._open_location)
        self._can_messages = lru_cache(maxsize=8)(partial(layout.can_messages, root))
        self._annotated = lru_cache(maxsize=64)(self._read_annotations)  # a key frame is the future of six others

    def split(self, name: str) -> list[str]:
        """Scene names of a split. Raises ParamsError for an unknown one, DataError when scenes are absent."""
        from nuscenes.utils.splits import create_splits_scenes, get_scenes_of_split

        tables = self.root / self._tables.version
        custom = tables / "splits.json"
        known = [*(read_json(custom, layout.MADE_BY) if custom.is_file() else {}), *create_splits_scenes()]
        if name not in known:
            raise ParamsError(
                expected=f"a split: {', '.join(known)}",
                got=repr(name),
                fix=f"edit scenes.train_split and scenes.eval_split in params.yaml, or add it to {custom}",
            )
        scenes = get_scenes_of_split(name, self._tables)
        absent = [scene for scene in scenes if scene not in self._scene_by_name]
        if absent:
            got = f"{len(scenes) - len(absent)} of them (no {absent[0]})"
            raise layout.missing(self.root, f"the {len(scenes)} scenes of split {name} in {tables}", got)
        return list(scenes)

    def tokens(self, split: str) -> list[str]:
        """Sample tokens of a split, scene by scene, in the order of time."""
        return [token for scene in self.split(split) for token in self.tokens_of_scene(scene)]

    def tokens_of_scene(self, scene: str) -> list[str]:
        """Sample tokens of one scene in the order of time."""
        first = self._get("sample", self._scene_by_name[scene]["first_sample_token"])
        return [sample["token"] for sample in (first, *self._from(first, "next"))]

    def frame(self, token: str) -> Frame:
        """The key frame with sample token `token`. Raises DataError when one of its images is missing or empty."""
        sample = self._get("sample", token)
        scene = self._get("scene", sample["scene_token"])
        future = list(islice(self._from(sample, "next"), FUTURE_STEPS))
        global_from_ego = self._global_from_ego(sample)
        return Frame(
            token=token,
            scene=scene["name"],
            location=self._get("log", scene["log_token"])["location"],
            description=scene["description"],
            timestamp_us=int(sample["timestamp"]),
            global_from_ego=global_from_ego,
            ego_from_lidar=self._pose("calibrated_sensor", self._get("sample_data", sample["data"]["LIDAR_TOP"])),
            cameras={name: self._camera(sample["data"][name]) for name in CAMERAS if name in sample["data"]},
            boxes=self._annotated(token)[0],
            speed_mps=self._speed_mps(sample, scene),
            future_ego_m=_path_m(inverse(global_from_ego), [self._global_from_ego(later) for later in future]),
            future_boxes=tuple(self._annotated(later["token"])[0] for later in future),
        )

    def drivable_mask(self, frame: Frame) -> NDArray[np.bool_]:
        """(1000, 1000), True is drivable; row = y left, column = x forward, 0.1 m, ego in the middle.

        As OmniDrive makes it: NuScenesMap.get_map_mask on a 100 x 100 m patch turned by the ego's yaw.
        """
        x_m, y_m = frame.global_from_ego[:2, 3]
        patch = (float(x_m), float(y_m), DRIVABLE_PATCH_M, DRIVABLE_PATCH_M)
        yaw_deg = float(np.degrees(yaw_rad(frame.global_from_ego)))
        explorer = self._location(frame.location).map_api
        mask = explorer.get_map_mask(patch, yaw_deg, ["drivable_area"], (DRIVABLE_CELLS, DRIVABLE_CELLS))
        return mask[0].astype(bool)

    def surroundings(self, frame: Frame) -> Surroundings:
        """Facts of the key frame that planning protocols use beside the frame itself."""
        sample = self._get("sample", frame.token)
        samples, past = [sample, *islice(self._from(sample, "next"), FUTURE_STEPS)], list(self._from(sample, "prev"))
        lidars = [self._get("sample_data", each["data"]["LIDAR_TOP"]) for each in samples]
        global_from_lidar = [self._pose("ego_pose", lidar) @ self._pose("calibrated_sensor", lidar) for lidar in lidars]
        path_m = _path_m(inverse(global_from_lidar[0]), global_from_lidar[1:])
        curbs_m = self._location(frame.location).curbs_m(frame.global_from_ego)
        marks = tuple(self._annotated(each["token"])[1] for each in samples)
        near = [self._get("sample_annotation", name) for each in past[:SEEN_STEPS] for name in each["anns"]]
        seen = frozenset(record["instance_token"] for record in near if record.get("visibility_token") != "1")
        return Surroundings(len(past), seen, marks, path_m, curbs_m)

    def map_polygons(
        self, location: str, layers: Sequence[str], center_xy_m: NDArray[np.float64], radius_m: float
    ) -> "list[Polygon]":
        """(layer, exterior (P, 2), holes) in global metres, cut to the circle around `center_xy_m`."""
        return self._location(location).polygons(tuple(layers), tuple(map(float, center_xy_m)), radius_m)

    def traffic_lights(self, location: str, center_xy_m: NDArray[np.float64], radius_m: float) -> Boxes:
        """The housings of the map's traffic lights in the circle, as boxes whose z is metres above the ground."""
        return self._location(location).traffic_lights(center_xy_m, radius_m)

    def _open_location(self, location: str) -> "Location":
        from nuscenes.map_expansion.map_api import NuScenesMap

        from stages.scenes.maps import Location  # shapely, which a bare GPU machine lacks

        path = self.root / "maps" / "expansion" / f"{location}.json"
        if not path.is_file():
            raise layout.missing(self.root, f"the map expansion {path}", "no such file")
        try:
            return Location(NuScenesMap(dataroot=str(self.root), map_name=location))
        except (ValueError, KeyError) as error:
            raise layout.missing(self.root, f"a whole map expansion 1.3 in {path}", repr(error)) from error

    def _get(self, table: str, token: str) -> dict[str, Any]:
        try:
            return self._tables.get(table, token)
        except KeyError:
            expected = f"a record of {table}.json in {self.root / self._tables.version}"
            raise layout.missing(self.root, expected, f"no record with token {token!r}") from None

    def _from(self, sample: dict[str, Any], way: Literal["next", "prev"]) -> Iterator[dict[str, Any]]:
        """The key frames of the scene after a sample, or before it, nearest first."""
        while sample[way]:
            sample = self._get("sample", sample[way])
            yield sample

    def _global_from_ego(self, sample: dict[str, Any]) -> NDArray[np.float64]:
        """The ego pose at LIDAR_TOP's time stamp, which the planning protocols call the pose of the key frame."""
        if "LIDAR_TOP" not in sample["data"]:
            expected = f"a LIDAR_TOP key frame of sample {sample['token']}"
            raise layout.missing(self.root, expected, f"only {', '.join(sorted(sample['data'])) or 'nothing'}")
        return self._pose("ego_pose", self._get("sample_data", sample["data"]["LIDAR_TOP"]))

    def _pose(self, table: str, sample_data: dict[str, Any]) -> NDArray[np.float64]:
        """The ego pose, or the sensor's in the ego frame, as a matrix."""
        record = self._get(table, sample_data[f"{table}_token"])
        return pose(np.array(record["translation"], float), np.array(record["rotation"], float))

    def _camera(self, token: str) -> Camera:
        record = self._get("sample_data", token)
        path = self.root / record["filename"]
        if not path.is_file() or path.stat().st_size == 0:
            got = "an empty file" if path.is_file() else "no such file"
            raise layout.missing(self.root, f"the image {path} of key frame {record['sample_token']}", got)
        calibration = self._get("calibrated_sensor", record["calibrated_sensor_token"])
        return Camera(
            channel=record["channel"],
            token=token,
            path=path,
            size_px=(record["width"], record["height"]),
            intrinsic=np.array(calibration["camera_intrinsic"], float),
            camera_from_global=inverse(self._pose("ego_pose", record) @ self._pose("calibrated_sensor", record)),
        )

    def _read_annotations(self, token: str) -> tuple[Boxes, Marks]:
        records = [self._get("sample_annotation", name) for name in self._get("sample", token)["anns"]]

        def column(key: str, width: int) -> NDArray[np.float64]:
            return np.array([record[key] for record in records], float).reshape(-1, width)

        categories, instances = (tuple(r[key] for r in records) for key in ("category_name", "instance_token"))
        boxes = Boxes(categories, instances, column("translation", 3), column("size", 3), column("rotation", 4))
        rows = [[r.get(key, "") for r in records] for key in ("visibility_token", "num_lidar_pts", "num_radar_pts")]
        return boxes, Marks(*(np.array([NOT_SAID if v == "" else int(v) for v in row], np.int64) for row in rows))

    def _speed_mps(self, sample: dict[str, Any], scene: dict[str, Any]) -> float:
        """Forward speed: of the CAN bus message nearest in time, else from the step before (or after, in the first)."""
        messages = self._can_messages(scene["name"], "pose")
        if messages:
            away_us = [abs(message["utime"] - sample["timestamp"]) for message in messages]
            nearest = int(np.argmin(away_us))
            if away_us[nearest] <= STEP_S * 1e6:
                return float(messages[nearest]["vel"][0])
        if not (sample["prev"] or sample["next"]):
            return 0.0
        other = self._get("sample", sample["prev"] or sample["next"])
        moved_m = self._global_from_ego(other)[:2, 3] - self._global_from_ego(sample)[:2, 3]
        return float(np.linalg.norm(moved_m) / (abs(other["timestamp"] - sample["timestamp"]) * 1e-6))


def _path_m(ego_from_global: NDArray[np.float64], later: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(T, 2) places of the later poses in the frame of now; NaN past the end of the scene."""
    path_m = np.full((FUTURE_STEPS, 2), np.nan)
    for step, matrix in enumerate(later):
        path_m[step] = move(ego_from_global, matrix[:3, 3])[:2]
    return path_m.round(9)  # last bits differ between CPUs
