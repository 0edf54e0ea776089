"""Where the pixels of the six cameras look: fixed for a camera and an image size."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stages.scenes.world.camera import RIGS, ego_from_camera, intrinsic


@dataclass(frozen=True, eq=False)
class Rays:
    """Where the pixels of one camera look, in the ego frame."""

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
