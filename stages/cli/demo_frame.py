"""One key frame of a drawn scene as a driver reads it, with its truth; no data set is needed."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray

from stages.core.io import write_bytes
from stages.scenes.base import Boxes, Camera, Frame, inverse
from stages.scenes.world.camera import RIGS, camera_from_scene, intrinsic
from stages.scenes.world.drawing import draw
from stages.scenes.world.recording import JPEG_QUALITY, quaternion
from stages.scenes.world.scenario import Scenario, simulate
from stages.scenes.world.setting import main_ring

FRONT = "CAM_FRONT"
SIZE_PX = (448, 252)  # as make_world draws for the committed driver
STEPS = 20
EVENTS = ("pedestrian", "obstacle_right", "obstacle_left", "lead", "red", "green", "curve")  # the first that there is
NEAR_M = 60.0  # boxes farther away are left out
CELL_M, CELLS = 0.1, 1000  # of the raster of drivable area


@dataclass(frozen=True)
class Drawn:
    """A drawn key frame, its truth, and the road around it."""

    frame: Frame
    event: str
    condition: str
    image: UInt8[np.ndarray, "H W 3"]
    classes: UInt8[np.ndarray, "H W"]  # 0 background, above it foreground
    drivable: Bool[np.ndarray, "1000 1000"]  # as in planning.base.Truth


def draw_frame(seed: int, folder: Path) -> Drawn:
    """Draw the key frame of the scene `seed` that shows the most; write its image into `folder`, as drivers read it."""
    scenario = simulate(seed, STEPS)
    step = _step_to_show(scenario)
    image, classes = draw(scenario, step, FRONT, SIZE_PX)
    path = folder / "front.jpg"
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    write_bytes(path, jpeg.tobytes())
    pose = scenario.ego_poses[step]
    rig = RIGS[FRONT]
    camera = Camera(FRONT, "front", path, SIZE_PX, intrinsic(rig, SIZE_PX), camera_from_scene(rig, pose))
    frame = Frame(
        token=f"drawn-{seed}-{step}",
        scene=f"drawn-{seed}",
        location=scenario.location,
        description=scenario.description,
        timestamp_us=0,
        global_from_ego=_global_from_ego(pose),
        ego_from_lidar=np.eye(4),
        cameras={FRONT: camera},
        boxes=_boxes(scenario, step),
        speed_mps=float(scenario.speed_mps[step]),
        future_ego_m=scenario.future_ego_m(step),
    )
    return Drawn(frame, scenario.event(step), scenario.condition, image, classes, _drivable(scenario, frame))


def _step_to_show(scenario: Scenario) -> int:
    events = [scenario.event(step) for step in range(scenario.steps)]
    chosen = next((event for event in EVENTS if event in events), events[0])
    steps = [step for step, event in enumerate(events) if event == chosen]
    return steps[len(steps) // 2]


def _global_from_ego(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, yaw_rad = pose
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw_rad), -np.sin(yaw_rad)], [np.sin(yaw_rad), np.cos(yaw_rad)]]
    matrix[:2, 3] = x, y
    return matrix


def _boxes(scenario: Scenario, step: int) -> Boxes:
    ego_m = scenario.ego_poses[step, :2]
    near = [actor for actor in scenario.actors if np.hypot(*(actor.poses[step, :2] - ego_m)) < NEAR_M]
    sizes_wlh_m = np.array([actor.size_wlh_m for actor in near], float).reshape(-1, 3)
    places = np.array([actor.poses[step] for actor in near], float).reshape(-1, 3)
    centers_m = np.column_stack([places[:, :2], sizes_wlh_m[:, 2] / 2])
    turns = np.array([quaternion(yaw_rad) for yaw_rad in places[:, 2]], float).reshape(-1, 4)
    names = tuple(actor.category for actor in near)
    return Boxes(names, tuple(map(str, range(len(near)))), centers_m, sizes_wlh_m, turns)


def _drivable(scenario: Scenario, frame: Frame) -> NDArray[np.bool_]:
    raster = np.zeros((CELLS, CELLS), np.uint8)
    ego_from_global = inverse(frame.global_from_ego)
    for ring_m in (main_ring(scenario.road), *scenario.road.side_rings()):
        ego_m = ring_m @ ego_from_global[:2, :2].T + ego_from_global[:2, 3]
        cells = np.rint(ego_m / CELL_M + CELLS / 2).clip(-10_000, 10_000).astype(np.int32)  # column x, row y
        cv2.fillPoly(raster, [cells], 1)
    return raster > 0
