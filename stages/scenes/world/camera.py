"""The six cameras of the drawn car: where they sit, how they project, and what of a polygon is in front of them."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stages.scenes.world.roads import Array

NEAR_M = 0.4  # polygons are cut here
_LARGEST_PX = 1.5e4  # OpenCV's fixed-point coordinates stay far from overflow


class Rig(NamedTuple):
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


def clip_near(ring_m: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "q 3"]:
    """The part of a ring in front of the near plane (Sutherland and Hodgman 1974, one plane)."""
    inside, after = ring_m[:, 2] > NEAR_M, np.roll(ring_m, -1, axis=0)
    crosses = inside != np.roll(inside, -1)
    depth = np.where(crosses, after[:, 2] - ring_m[:, 2], 1.0)
    cut = ring_m + ((NEAR_M - ring_m[:, 2]) / depth)[:, None] * (after - ring_m)
    return np.stack([ring_m, cut], axis=1).reshape(-1, 3)[np.stack([inside, crosses], axis=1).ravel()]


class Rays(NamedTuple):
    """Directions of the pixels of one camera, in the ego frame, float32."""

    horizon_row: int  # rows above it see no ground
    azimuth_deg: NDArray[np.float32]  # (horizon_row, W) to the right
    elevation_deg: NDArray[np.float32]  # (horizon_row, W)
    ground_x: NDArray[np.float32]  # (H - horizon_row, W) metres ahead
    ground_y: NDArray[np.float32]
    grain: NDArray[np.float32]  # (H - horizon_row, W) strength of the texture


@lru_cache(maxsize=16)
def rays(channel: str, size_px: tuple[int, int]) -> Rays:
    """The rays of a camera at an image size."""
    matrix, pose = intrinsic(RIGS[channel], size_px), ego_from_camera(RIGS[channel])
    width, height = size_px
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    local = np.stack([(u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1], np.ones_like(u)], axis=-1)
    ray = local @ pose[:3, :3].T
    horizon = int(matrix[1, 2])
    azimuth = -np.rad2deg(np.arctan2(ray[..., 1], ray[..., 0]))
    elevation = np.rad2deg(np.arctan2(ray[..., 2], np.hypot(ray[..., 0], ray[..., 1])))
    scale = pose[2, 3] / np.maximum(-ray[horizon:, :, 2], 1e-3)
    ground = pose[:2, 3] + ray[horizon:, :, :2] * scale[..., None]
    grain = np.clip(14.0 / np.linalg.norm(ground, axis=-1), 0.25, 1.0)
    arrays = (azimuth[:horizon], elevation[:horizon], ground[..., 0], ground[..., 1], grain)
    return Rays(horizon, *(array.astype(np.float32) for array in arrays))
