"""The six cameras of the drawn car: where they sit, how they project, and what of a polygon is in front of them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from stages.scenes.world.roads import Array

NEAR_M = 0.4  # polygons are cut here
_LARGEST_PX = 1.5e4  # OpenCV's fixed-point coordinates stay far from overflow


@dataclass(frozen=True)
class Rig:
    """A camera on the car: level, so that its horizon is at 0.47 H. Ego frame: x forward, y left, z up."""

    translation_m: tuple[float, float, float]
    yaw_deg: float  # positive to the left
    focal_widths: float  # focal length in image widths


# Places, directions and focal lengths after the nuScenes car; the heights are made equal.
RIGS = {
    "CAM_FRONT": Rig((1.70, 0.0, 1.60), 0.0, 0.79),
    "CAM_FRONT_RIGHT": Rig((1.55, -0.49, 1.60), -55.0, 0.79),
    "CAM_BACK_RIGHT": Rig((1.05, -0.48, 1.60), -110.0, 0.79),
    "CAM_BACK": Rig((0.05, 0.0, 1.60), 180.0, 0.50),
    "CAM_BACK_LEFT": Rig((1.05, 0.48, 1.60), 110.0, 0.79),
    "CAM_FRONT_LEFT": Rig((1.55, 0.49, 1.60), 55.0, 0.79),
}


def intrinsic(rig: Rig, size_px: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """The pinhole matrix for an image of `size_px` (W, H)."""
    width, height = size_px
    focal = rig.focal_widths * width
    return np.array([[focal, 0.0, width / 2], [0.0, focal, 0.47 * height], [0.0, 0.0, 1.0]])


@lru_cache(maxsize=16)
def ego_from_camera(rig: Rig) -> Float[np.ndarray, "4 4"]:
    """Moves points of the camera frame (x right, y down, z forward) into the ego frame."""
    yaw = np.deg2rad(rig.yaw_deg)
    forward, left = np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([-left, [0.0, 0.0, -1.0], forward], axis=1)
    matrix[:3, 3] = rig.translation_m
    return matrix.round(12)


def camera_from_scene(rig: Rig, pose: Array) -> Float[np.ndarray, "4 4"]:
    """Moves points of the scene frame into the camera frame; `pose` is the ego's x, y and heading."""
    x, y, yaw = pose
    scene_from_ego = np.array(
        [[np.cos(yaw), -np.sin(yaw), 0, x], [np.sin(yaw), np.cos(yaw), 0, y], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    return np.linalg.inv(scene_from_ego @ ego_from_camera(rig))


def project(points: Float[np.ndarray, "... 3"], matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "... 2"]:
    """Pixels of points in the camera frame; meaningful only where z > 0."""
    scale = np.array([matrix[0, 0], matrix[1, 1]])
    pixels = points[..., :2] / np.maximum(points[..., 2:], 1e-6) * scale + matrix[:2, 2]
    return np.clip(pixels, -_LARGEST_PX, _LARGEST_PX)


def clip_near(
    points: Float[np.ndarray, "p 3"], ring: Int[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "q 3"], Int[np.ndarray, " q"]]:
    """The parts of many rings in front of the near plane at once (Sutherland and Hodgman 1974, one plane).

    `ring` is the ring number of each point, ascending; what lies behind the plane is left out.
    """
    inside = points[:, 2] > NEAR_M
    if inside.all():
        return points, ring
    last = np.append(ring[1:] != ring[:-1], True)
    after = np.arange(1, len(ring) + 1)
    after[last] = np.append(0, np.flatnonzero(last[:-1]) + 1)
    crosses = inside != inside[after]
    depth = np.where(crosses, points[after, 2] - points[:, 2], 1.0)
    cut = points + ((NEAR_M - points[:, 2]) / depth)[:, None] * (points[after] - points)
    kept = np.stack([inside, crosses], axis=1).ravel()
    return np.stack([points, cut], axis=1).reshape(-1, 3)[kept], ring.repeat(2)[kept]


@dataclass(frozen=True, eq=False)
class Rays:
    """Directions of the pixels of one camera, in the ego frame."""

    horizon_row: int  # rows above it see no ground
    azimuth_deg: NDArray[np.float32]  # (horizon_row, W) to the right
    elevation_deg: NDArray[np.float32]  # (horizon_row, W)
    ground_x: NDArray[np.float32]  # (H - horizon_row, W) metres ahead
    ground_y: NDArray[np.float32]
    grain: NDArray[np.float32]  # (H - horizon_row, W) strength of the texture


@lru_cache(maxsize=16)
def rays(channel: str, size_px: tuple[int, int]) -> Rays:
    """The rays of a camera at an image size."""
    rig = RIGS[channel]
    matrix = intrinsic(rig, size_px)
    width, height = size_px
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    local = np.stack([(u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1], np.ones_like(u)], axis=-1)
    pose = ego_from_camera(rig)
    ray = local @ pose[:3, :3].T
    horizon = int(matrix[1, 2])
    azimuth = -np.rad2deg(np.arctan2(ray[..., 1], ray[..., 0]))
    elevation = np.rad2deg(np.arctan2(ray[..., 2], np.hypot(ray[..., 0], ray[..., 1])))
    scale = pose[2, 3] / np.maximum(-ray[horizon:, :, 2], 1e-3)
    ground = pose[:2, 3] + ray[horizon:, :, :2] * scale[..., None]
    distance = np.linalg.norm(ground, axis=-1)
    return Rays(
        horizon_row=horizon,
        azimuth_deg=azimuth[:horizon].astype(np.float32),
        elevation_deg=elevation[:horizon].astype(np.float32),
        ground_x=ground[..., 0].astype(np.float32),
        ground_y=ground[..., 1].astype(np.float32),
        grain=np.clip(14.0 / distance, 0.25, 1.0).astype(np.float32),
    )
