"""What happened: the typed records that every stage reads. No I/O here.

Frames: "global" is the nuScenes map frame; "ego" is the ego (IMU) frame of the key frame's LIDAR_TOP pose,
x forward, y left, z up, metres. `a_from_b` is a 4 x 4 matrix that moves points of frame b into frame a.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
FUTURE_STEPS = 6  # T: key frames at 2 Hz, 3 s
STEP_S = 0.5


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
        """Whether all T future key frames are recorded."""
        return bool(np.isfinite(self.future_ego_m).all())
