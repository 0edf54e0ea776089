"""Sky, skyline and the texture of the ground: what fills an image before polygons are painted."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.scenes.world.camera import RIGS, ego_from_camera, intrinsic
from stages.scenes.world.mesh import Color
from stages.scenes.world.roads import Array

_PER_DEG = 4  # pixels of the panorama
_TOP_DEG, _BOTTOM_DEG = 36, 2
_TILE = 512  # pixels of the ground tile; it repeats
_TILE_PER_M = 6.0
_MOODS: tuple[tuple[Color, Color, float], ...] = (  # zenith, horizon, brightness
    ((92, 140, 210), (190, 212, 232), 1.0),
    ((140, 150, 162), (196, 200, 204), 0.88),
    ((70, 80, 130), (236, 176, 130), 0.78),
    ((120, 160, 205), (222, 222, 214), 1.1),
)
_SOILS: tuple[Color, ...] = ((92, 112, 62), (118, 108, 78), (128, 126, 118), (84, 100, 70))


@dataclass(frozen=True, eq=False)
class Backdrop:
    """One scene's far surroundings and its light."""

    panorama: NDArray[np.uint8]  # (rows, 360 * _PER_DEG, 3): azimuth to the right, elevation downwards
    soil: NDArray[np.uint8]  # (_TILE, _TILE, 3)
    haze: Array  # (3,) what far things fade to
    gain: NDArray[np.float32]  # (3,) brightness and tint of the whole image
    noise_levels: float


@dataclass(frozen=True, eq=False)
class Rays:
    """Where the pixels of one camera look, in the ego frame."""

    horizon_row: int  # rows above it see no ground
    azimuth: NDArray[np.float32]  # (horizon_row, W) panorama columns at heading 0
    row: NDArray[np.float32]  # (horizon_row, W) panorama rows
    ground_x: NDArray[np.float32]  # (H - horizon_row, W) metres ahead
    ground_y: NDArray[np.float32]
    grain: NDArray[np.float32]  # (H - horizon_row, W, 1) strength of the texture


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
    azimuth = -np.rad2deg(np.arctan2(ray[..., 1], ray[..., 0])) * _PER_DEG
    elevation = np.rad2deg(np.arctan2(ray[..., 2], np.hypot(ray[..., 0], ray[..., 1])))
    scale = pose[2, 3] / np.maximum(-ray[horizon:, :, 2], 1e-3)
    ground = pose[:2, 3] + ray[horizon:, :, :2] * scale[..., None]
    distance = np.linalg.norm(ground, axis=-1)
    return Rays(
        horizon_row=horizon,
        azimuth=azimuth[:horizon].astype(np.float32),
        row=((_TOP_DEG - elevation[:horizon]) * _PER_DEG).astype(np.float32),
        ground_x=ground[..., 0].astype(np.float32),
        ground_y=ground[..., 1].astype(np.float32),
        grain=np.clip(14.0 / distance, 0.25, 1.0)[..., None].astype(np.float32),
    )


@lru_cache(maxsize=1)
def _tiles() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two repeating noise tiles in about [-1, 1]: fine grain, and large patches."""
    rng = np.random.default_rng(20)
    fine = rng.normal(size=(_TILE, _TILE)).astype(np.float32)
    octaves = [_repeating_blur(rng.normal(size=(_TILE, _TILE)).astype(np.float32), sigma) for sigma in (2.0, 7.0, 24.0)]
    return 0.5 * fine + 0.5 * octaves[0], np.asarray(sum(octaves) / 3, np.float32)


def _repeating_blur(tile: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """A blurred tile of unit variance that still repeats without a seam."""
    margin = int(4 * sigma_px)
    padded = cv2.copyMakeBorder(tile, margin, margin, margin, margin, cv2.BORDER_WRAP)
    blurred = cv2.GaussianBlur(padded, (0, 0), sigma_px)[margin:-margin, margin:-margin]
    return blurred / blurred.std()


@lru_cache(maxsize=1)
def _sensor_noise() -> NDArray[np.int8]:
    """A large tile of sensor noise, cut at a place that differs per image."""
    rng = np.random.default_rng(21)
    return np.clip(rng.normal(0, 32, size=(1024, 1024, 3)), -127, 127).astype(np.int8)


def build_backdrop(seed: int) -> Backdrop:
    """The far surroundings of a scene."""
    rng = np.random.default_rng((seed, 2))
    zenith, horizon, brightness = _MOODS[int(rng.integers(len(_MOODS)))]
    panorama = _sky(rng, np.array(zenith, float), np.array(horizon, float))
    _skyline(rng, panorama)
    soil = np.array(_SOILS[int(rng.integers(len(_SOILS)))]) * rng.uniform(0.85, 1.1)
    other = np.array(_SOILS[int(rng.integers(len(_SOILS)))])
    patches = np.clip(_tiles()[1][..., None] * 0.7 + 0.4, 0, 1)
    texture = soil * (1 - patches) + other * patches
    return Backdrop(
        panorama=panorama,
        soil=np.clip(texture, 0, 255).astype(np.uint8),
        haze=np.array(horizon, float) * 0.9,
        gain=(brightness * rng.uniform(0.88, 1.08) * rng.uniform(0.95, 1.05, 3)).astype(np.float32),
        noise_levels=float(rng.uniform(1.5, 5.0)),
    )


def _sky(rng: np.random.Generator, zenith: Array, horizon: Array) -> NDArray[np.uint8]:
    rows, columns = (_TOP_DEG + _BOTTOM_DEG) * _PER_DEG, 360 * _PER_DEG
    height = np.clip(np.linspace(1, -_BOTTOM_DEG / _TOP_DEG, rows), 0, 1)[:, None, None] ** 0.7
    sky = (zenith * height + horizon * (1 - height)).repeat(columns, axis=1)
    clouds, finer = _all_round(rng, (12, 46), (rows, columns)), _all_round(rng, (30, 165), (rows, columns))
    cover = np.clip((clouds + 0.35 * finer) * 0.5 + rng.uniform(-0.3, 0.2), 0, 0.85)[..., None]
    return np.clip(sky * (1 - cover) + np.array([238, 238, 240]) * cover, 0, 255).astype(np.uint8)


def _all_round(rng: np.random.Generator, knots: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise whose last column goes over into its first: the ends overlap and are faded into each other."""
    rows, columns = shape
    overlap = columns // 10
    wide = cv2.resize(
        rng.normal(size=knots).astype(np.float32), (columns + overlap, rows), interpolation=cv2.INTER_CUBIC
    )
    weight = np.linspace(0, 1, overlap, dtype=np.float32)
    wide[:, :overlap] = weight * wide[:, :overlap] + (1 - weight) * wide[:, columns:]
    return wide[:, :columns]


def _skyline(rng: np.random.Generator, panorama: NDArray[np.uint8]) -> None:
    """Hills, far houses with dots of light, and a line of trees, painted onto a fresh sky."""
    rows, columns = panorama.shape[:2]
    base = _TOP_DEG * _PER_DEG
    turn = np.arange(columns) / columns * 2 * np.pi
    hills = sum(rng.uniform(0.3, 1.2) * np.sin(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 5, 9)) + 2.5
    below = np.arange(rows)[:, None] > base - np.asarray(hills) * _PER_DEG
    panorama[below] = np.array([110, 124, 122]) * rng.uniform(0.8, 1.1)
    for _ in range(int(rng.integers(50, 110))):
        x, width, height = int(rng.integers(columns)), int(rng.integers(8, 34)), int(rng.integers(10, 44))
        wall = rng.uniform(0.7, 1.1) * np.array([136, 134, 136]) * rng.uniform(0.9, 1.1, 3)
        cv2.rectangle(panorama, (x, base - height), (x + width, rows), wall.tolist(), cv2.FILLED)
        pane = rng.integers(40, 250, 3).tolist()
        for row in range(base - height + 3, base - 3, 5):
            for column in range(x + 2, min(x + width - 2, columns - 2), 5):
                cv2.rectangle(panorama, (column, row), (column + 1, row + 2), pane, cv2.FILLED)
    crowns = np.abs(cv2.resize(rng.normal(size=(1, 240)).astype(np.float32), (columns, 1)))[0] * 1.3 * _PER_DEG + 2
    below = np.arange(rows)[:, None] > base - crowns
    panorama[below] = np.array([66, 84, 58]) * rng.uniform(0.8, 1.2)


def paint_far(backdrop: Backdrop, view: Rays, pose: Array) -> NDArray[np.uint8]:
    """A fresh image (H, W, 3): sky above the horizon, soil below."""
    turn = np.float32(-np.rad2deg(pose[2]) * _PER_DEG)
    columns = np.mod(view.azimuth + turn, np.float32(360 * _PER_DEG))
    sky = cv2.remap(backdrop.panorama, columns, view.row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    x, y = _scene_ground(view, pose)
    soil = cv2.remap(backdrop.soil, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
    return np.concatenate([sky, soil])


def _scene_ground(view: Rays, pose: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tile coordinates of the ground pixels."""
    c, s = np.float32(np.cos(pose[2]) * _TILE_PER_M), np.float32(np.sin(pose[2]) * _TILE_PER_M)
    x = c * view.ground_x - s * view.ground_y + np.float32(pose[0] * _TILE_PER_M)
    y = s * view.ground_x + c * view.ground_y + np.float32(pose[1] * _TILE_PER_M)
    return x, y


def roughen(ground: NDArray[np.uint8], view: Rays, pose: Array) -> NDArray[np.uint8]:
    """The painted ground (rows below the horizon) with grain that is fixed to the world."""
    x, y = _scene_ground(view, pose)
    grain = cv2.remap(_tiles()[0], x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)[..., None]
    return np.clip(ground + grain * view.grain * np.float32(14.0), 0, 255).astype(np.uint8)


def expose(image: NDArray[np.uint8], backdrop: Backdrop, shift: tuple[int, int]) -> NDArray[np.uint8]:
    """Gain, tint and sensor noise; `shift` is where the noise tile is cut."""
    height, width = image.shape[:2]
    tile = _sensor_noise()
    top, left = shift[0] % (tile.shape[0] - height), shift[1] % (tile.shape[1] - width)
    noise = tile[top : top + height, left : left + width] * np.float32(backdrop.noise_levels / 32)
    return np.clip(image * backdrop.gain + noise, 0, 255).astype(np.uint8)
