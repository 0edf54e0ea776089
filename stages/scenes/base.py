"""The typed records of a data set that every stage reads, and rotations and poses as matrices. No I/O here.

Frames: "global" is the nuScenes map frame; "ego" is the ego (IMU) frame of the key frame's LIDAR_TOP pose,
x forward, y left, z up, metres. `a_from_b` is a 4 x 4 matrix that moves points of frame b into frame a.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
FUTURE_STEPS = 6  # T: key frames at 2 Hz, 3 s
STEP_S = 0.5
NOT_SAID = -1  # visibility or points that a table leaves out


@dataclass(frozen=True)
class Boxes:
    """M annotated 3-D boxes in the global frame, with nuScenes category names."""

    categories: tuple[str, ...]
    instances: tuple[str, ...]  # instance tokens: the same object carries the same one in every key frame
    centers_m: NDArray[np.float64]  # (M, 3)
    sizes_wlh_m: NDArray[np.float64]  # (M, 3) width, length, height
    rotations_wxyz: NDArray[np.float64]  # (M, 4) unit quaternions

    def __len__(self) -> int:
        return len(self.categories)


@dataclass(frozen=True)
class Camera:
    """One key-frame image and how it sees the world."""

    channel: str
    token: str  # sample_data token
    path: Path
    size_px: tuple[int, int]  # W, H
    intrinsic: NDArray[np.float64]  # (3, 3)
    camera_from_global: NDArray[np.float64]  # (4, 4), at this camera's own time stamp; x right, y down, z forward


@dataclass(frozen=True)
class Frame:
    """One key frame: cameras, boxes, the ego's state and its recorded future."""

    token: str
    scene: str  # scene name, e.g. scene-0061
    location: str
    description: str
    timestamp_us: int
    global_from_ego: NDArray[np.float64]  # (4, 4)
    ego_from_lidar: NDArray[np.float64]  # (4, 4)
    cameras: dict[str, Camera]  # by channel; a camera that is missing is absent
    boxes: Boxes
    speed_mps: float
    future_ego_m: NDArray[np.float64]  # (T, 2) ego positions x forward, y left; NaN past the end of the scene
    future_boxes: tuple[Boxes, ...] = field(default=())  # boxes of the next key frames, at most T, global frame

    @property
    def complete(self) -> bool:
        """True when all T future key frames are recorded."""
        return bool(np.isfinite(self.future_ego_m).all())


@dataclass(frozen=True)
class Marks:
    """Of the M boxes of one key frame, in the order of its `Boxes`; NOT_SAID where the tables leave it out."""

    visibilities: NDArray[np.int64]  # (M,) nuScenes' levels: 1 is under 40 % visible, 4 over 80 %
    lidar_points: NDArray[np.int64]  # (M,) inside the box
    radar_points: NDArray[np.int64]  # (M,)


@dataclass(frozen=True)
class Surroundings:
    """Beside a `Frame`: marks of its boxes and those of the next key frames, the past, and the lidar's own future."""

    past_steps: int  # key frames of the scene before this one
    seen_before: frozenset[str]  # instances that were more than level 1 visible in one of the two key frames before
    marks: tuple[Marks, ...]  # of now and the next key frames, at most 1 + T
    future_lidar_m: Float[np.ndarray, "T 2"]  # positions of LIDAR_TOP, in its frame of now; NaN past the scene's end
    curbs_m: Float[np.ndarray, "S 2 2"]  # edges of road segments and lanes: S lines from point to point, ego frame


def rotations(wxyz: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "M 3 3"]:
    """Rotation matrices of quaternions; they are normalised first, as the devkit does."""
    w, x, y, z = (wxyz / np.linalg.norm(wxyz, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def pose(translation_m: Float[np.ndarray, " 3"], wxyz: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "4 4"]:
    """The matrix that moves points of the posed frame into its parent."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotations(wxyz[None])[0]
    matrix[:3, 3] = translation_m
    return matrix


def inverse(matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The inverse of a rigid motion: exact up to rounding, unlike a general solver near singular."""
    rotation = matrix[:3, :3].T
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = -rotation @ matrix[:3, 3]
    return result


def move(a_from_b: Float[np.ndarray, "4 4"], points_b: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3"]:
    """Points of frame b in frame a."""
    return points_b @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def yaw_rad(matrix: Float[np.ndarray, "4 4"]) -> float:
    """Heading of the x axis in the parent's xy plane, counter-clockwise."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))
