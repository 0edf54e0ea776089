"""What night, rain and a low sun do to colours and pictures. Nothing here touches class maps or boxes."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.scenes.world.camera import RIGS, intrinsic
from stages.scenes.world.conditions import GLARE, NIGHT, RAIN
from stages.scenes.world.rays import Rays, rays
from stages.scenes.world.roads import Array

Image = NDArray[np.uint8]
_HAZE_M, _RAIN_HAZE_M = 160.0, 110.0  # things fade to the haze as 1 - exp(-distance / this)
_MOONLIGHT = np.array([0.24, 0.26, 0.34])  # what unlit things keep of their colours at night
_NIGHT_SKY = 0.15
_HEADLIGHT = np.array([0.80, 0.76, 0.64])
_TAIL_GLOW = np.array([0.30, 0.05, 0.04])
_BLOOM_FROM = 150  # brighter parts of a night image glow
_SUN_ELEVATION_RAD = 0.19
_SUN_COLOR = np.array([255.0, 240.0, 205.0])


@dataclass(frozen=True)
class Weather:
    """A scene's condition, and where the sun stands in the scene frame (glare only)."""

    condition: str
    sun_yaw_rad: float

    @property
    def haze_m(self) -> float:
        return _RAIN_HAZE_M if self.condition == RAIN else _HAZE_M

    @property
    def lamp_haze(self) -> float:
        """How much of the haze lamps take: in bad light they shine through it."""
        return 0.7 if self.condition in (NIGHT, RAIN) else 1.0


def build_weather(seed: int, condition: str) -> Weather:
    """The sun stands about ahead: roads start towards heading 0, and a sun that no driver faces tests no driver."""
    return Weather(condition, float(np.random.default_rng((seed, 6)).uniform(-0.55, 0.55)))


def graded(colors: Array, weather: Weather) -> Array:
    """Colours (..., 3) of things that rain makes dull; unchanged in other weather."""
    if weather.condition != RAIN:
        return colors
    grey = colors.mean(axis=-1, keepdims=True)
    return 0.7 * (grey + 0.55 * (colors - grey)) + 26.0


def sky_light(weather: Weather) -> float:
    """Brightness of the sky and of what stands far away, of 1."""
    return _NIGHT_SKY if weather.condition == NIGHT else 1.0


def lit(colors: Array, glows: NDArray[np.bool_], ego_m: Array) -> Array:
    """Colours (n, 3) of things at `ego_m` (n, 2) in the light there is at night; what glows keeps its own."""
    return np.where(glows[:, None], colors, colors * _light_at(ego_m[:, 0], ego_m[:, 1]))


def _light_at(x_m: Array, y_m: Array) -> Array:
    """(..., 3) light at places in the ego frame at night: moonlight, the headlights' cone, red behind the car."""
    ahead, aside = np.maximum(x_m - 1.5, 0.1), y_m
    cone = np.exp(-((np.arctan2(aside, ahead) / 0.5) ** 2)) / (1 + (ahead / 24.0) ** 2) * (x_m > 1.5)
    behind = np.exp(-(((x_m + 3.0) / 4.0) ** 2) - (aside / 2.5) ** 2) * (x_m < 0.0)
    return _MOONLIGHT + cone[..., None] * _HEADLIGHT + behind[..., None] * _TAIL_GLOW


@lru_cache(maxsize=16)
def _ground_light(channel: str, size_px: tuple[int, int]) -> Image:
    """(H - horizon_row, W, 3) night light on the ground, 255 for full daylight."""
    view = rays(channel, size_px)
    light = _light_at(view.ground_x.astype(float), view.ground_y.astype(float))
    return np.clip(light * 255, 0, 255).astype(np.uint8)


def light_ground(image: Image, channel: str, pose: Array, weather: Weather) -> None:
    """Light the painted ground of an image in place, before anything stands on it."""
    size_px = (image.shape[1], image.shape[0])
    horizon = rays(channel, size_px).horizon_row
    ground = image[horizon:]
    if weather.condition == NIGHT:
        cv2.multiply(ground, _ground_light(channel, size_px), dst=ground, scale=1 / 255)
    elif weather.condition == GLARE and (cut := _sun_cut(channel, size_px, pose, weather)) is not None:
        cv2.add(ground, _sun_tiles(size_px)[1][cut][horizon:], dst=ground)


def finish(image: Image, road: NDArray[np.bool_], channel: str, pose: Array, weather: Weather) -> Image:
    """The painted image with what light does in the air, in the lens and on a wet road."""
    size_px = (image.shape[1], image.shape[0])
    if weather.condition == NIGHT:
        return _bloomed(image)
    if weather.condition == RAIN:
        _reflect(image, road, rays(channel, size_px))
    if weather.condition == GLARE and (cut := _sun_cut(channel, size_px, pose, weather)) is not None:
        veil = _sun_tiles(size_px)[0][cut]
        return cv2.add(image, cv2.multiply(255 - image, veil, scale=1 / 255))
    return image


def _bloomed(image: Image) -> Image:
    """Lights with a halo; computed at a quarter of the size."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    halo = cv2.GaussianBlur(cv2.subtract(small, (_BLOOM_FROM,) * 4), (0, 0), 2.0)
    return cv2.add(image, cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR))


def _reflect(image: Image, road: NDArray[np.bool_], view: Rays) -> None:
    """Mix what lies above the horizon, upside down and smeared, into the road's pixels: most near the horizon."""
    horizon = view.horizon_row
    rows = min(horizon, len(image) - horizon)
    mirrored = cv2.blur(image[horizon - rows : horizon][::-1], (3, 11))
    share = _wetness(rows, image.shape[1])
    ground = image[horizon : horizon + rows]
    mixed = cv2.add(cv2.multiply(ground, 255 - share, scale=1 / 255), cv2.multiply(mirrored, share, scale=1 / 255))
    cv2.copyTo(mixed, road[horizon : horizon + rows].view(np.uint8), ground)


@lru_cache(maxsize=4)
def _wetness(rows: int, width: int) -> Image:
    """(rows, W, 3) share of the reflection, of 255: water mirrors more at a flat angle."""
    share = 0.12 + 0.43 * np.exp(-np.arange(rows) / (0.25 * rows))
    return np.broadcast_to((share * 255).astype(np.uint8)[:, None, None], (rows, width, 3)).copy()


def _sun_cut(channel: str, size_px: tuple[int, int], pose: Array, weather: Weather) -> tuple[slice, slice] | None:
    """Where an image lies in the tiles around the sun; None when the sun is far out of the picture."""
    width, height = size_px
    lens = intrinsic(RIGS[channel], size_px)
    aside = weather.sun_yaw_rad - pose[2] - np.deg2rad(RIGS[channel].yaw_deg)
    if np.cos(aside) < 0.3:
        return None
    u = round(float(lens[0, 2] - lens[0, 0] * np.tan(aside)))
    v = round(float(lens[1, 2] - lens[1, 1] * np.tan(_SUN_ELEVATION_RAD) / np.cos(aside)))
    top, left = height - v, 3 * width // 2 - u
    if not (0 <= top <= height and 0 <= left <= 2 * width):
        return None
    return slice(top, top + height), slice(left, left + width)


@lru_cache(maxsize=2)
def _sun_tiles(size_px: tuple[int, int]) -> tuple[Image, Image]:
    """Veil, of 255, and streak on the ground around a sun in the middle; (2 H, 3 W, 3) each."""
    width, height = size_px
    v, u = np.mgrid[-height:height, -(3 * width // 2) : 3 * width // 2] / width
    away = np.hypot(u, v)
    veil = 0.25 * np.exp(-((away / 0.05) ** 2)) + 0.38 * np.exp(-((away / 0.2) ** 2)) + 0.28 * np.exp(-away / 0.4)
    streak = 70 * np.exp(-((u / (0.025 + 0.06 * np.maximum(v, 0))) ** 2)) + 40 * np.exp(-((u / 0.2) ** 2))
    return _tinted(255 * veil), _tinted(streak)


def _tinted(levels: Array) -> Image:
    """(H, W, 3) sunlight of so many levels."""
    return (np.clip(levels, 0, 255)[..., None] * _SUN_COLOR / 255).astype(np.uint8)


def add_sun(panorama: Image, per_deg: int, top_deg: int, weather: Weather) -> None:
    """The low sun in a sky, whose rows begin at `top_deg`; columns run to the right from azimuth 0."""
    rows, columns = panorama.shape[:2]
    right = np.arange(columns) / per_deg + np.rad2deg(weather.sun_yaw_rad)
    right = (right + 180.0) % 360.0 - 180.0
    up = top_deg - np.arange(rows) / per_deg - np.rad2deg(_SUN_ELEVATION_RAD)
    away = np.hypot(right[None], up[:, None])
    share = np.clip(1.3 * np.exp(-((away / 2.0) ** 2)) + 0.7 * np.exp(-away / 14.0), 0, 1)[..., None]
    panorama[:] = panorama + (_SUN_COLOR - panorama) * share


@lru_cache(maxsize=1)
def rain_tile(size: int) -> NDArray[np.float32]:
    """(size, size) brightness in levels that streaks of falling rain, and drops on the lens, add to an image."""
    rng = np.random.default_rng(22)
    tile = np.zeros((size, size), np.float32)
    for x, y in rng.integers(0, size, (size * size // 420, 2)).tolist():
        length = int(rng.integers(8, 24))
        cv2.line(tile, (x, y), (x + length // 6, y + length), float(rng.uniform(8, 30)), 1)
    drops = np.zeros_like(tile)
    for x, y in rng.integers(0, size, (size * size // 14000, 2)).tolist():
        cv2.circle(drops, (x, y), int(rng.integers(2, 6)), float(rng.uniform(14, 34)), cv2.FILLED)
    return tile + cv2.GaussianBlur(drops, (0, 0), 1.2)
