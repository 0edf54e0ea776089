"""Sky, skyline and ground texture behind the polygons, and what night, rain and a low sun do to colours and pictures.

Nothing here touches class maps or boxes.
"""

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.scenes.world.camera import RIGS, Rays, intrinsic, rays
from stages.scenes.world.roads import Array
from stages.scenes.world.scenario import GLARE, NIGHT, RAIN
from stages.scenes.world.shapes import Color

Image = NDArray[np.uint8]
_MOONLIGHT = np.array([0.24, 0.26, 0.34])  # what unlit things keep of their colours at night
_HEADLIGHT = np.array([0.80, 0.76, 0.64])
_TAIL_GLOW = np.array([0.30, 0.05, 0.04])
_BLOOM_FROM = 150  # brighter parts of a night image glow
_SUN_ELEVATION_RAD = 0.19
_SUN_COLOR = np.array([255.0, 240.0, 205.0])
_PER_DEG = 4  # pixels of the panorama
_TOP_DEG, _BOTTOM_DEG = 36, 2
_TILE = 512  # pixels of the ground tile; it repeats
_TILE_PER_M = 6.0
_NOISE = 1024  # pixels of the noise tile
_MOODS: tuple[tuple[Color, Color, float], ...] = (  # zenith, horizon, brightness
    ((92, 140, 210), (190, 212, 232), 1.0),
    ((140, 150, 162), (196, 200, 204), 0.88),
    ((70, 80, 130), (236, 176, 130), 0.78),
    ((120, 160, 205), (222, 222, 214), 1.1),
)
_OVERCAST = 1
_SOILS: tuple[Color, ...] = ((92, 112, 62), (118, 108, 78), (128, 126, 118), (84, 100, 70))


class Backdrop(NamedTuple):
    """One scene's far surroundings and its light."""

    condition: str
    sun_yaw_rad: float  # where the sun stands in the scene frame (glare only)
    haze_m: float  # things fade to the haze as 1 - exp(-distance / this)
    panorama: Image  # (rows, 360 * _PER_DEG, 3): azimuth to the right, elevation downwards
    soil: Image  # (_TILE, _TILE, 3)
    haze: Array  # (3,) what far things fade to
    gain: Image  # (256, 1, 3) table: brightness and tint of the whole image
    noise: NDArray[np.int8]  # (_NOISE, _NOISE, 3), cut at a place that differs per image


def graded(colors: Array, condition: str) -> Array:
    """Colours (..., 3) of things that rain makes dull; unchanged in other weather."""
    if condition != RAIN:
        return colors
    grey = colors.mean(axis=-1, keepdims=True)
    return 0.7 * (grey + 0.55 * (colors - grey)) + 26.0


def lit(colors: Array, glows: NDArray[np.bool_], ego_m: Array) -> Array:
    """Colours (n, 3) of things at `ego_m` (n, 2) in the light there is at night; what glows keeps its own."""
    return np.where(glows[:, None], colors, colors * _light_at(*ego_m.T))


def _light_at(x_m: Array, y_m: Array) -> Array:
    """(..., 3) light at places in the ego frame at night: moonlight, the headlights' cone, red behind the car."""
    ahead = np.maximum(x_m - 1.5, 0.1)
    cone = np.exp(-((np.arctan2(y_m, ahead) / 0.5) ** 2)) / (1 + (ahead / 24.0) ** 2) * (x_m > 1.5)
    behind = np.exp(-(((x_m + 3.0) / 4.0) ** 2) - (y_m / 2.5) ** 2) * (x_m < 0.0)
    return _MOONLIGHT + cone[..., None] * _HEADLIGHT + behind[..., None] * _TAIL_GLOW


@lru_cache(maxsize=16)
def _ground_light(channel: str, size_px: tuple[int, int]) -> Image:
    """(H - horizon_row, W, 3) night light on the ground, 255 for full daylight."""
    view = rays(channel, size_px)
    light = _light_at(view.ground_x.astype(float), view.ground_y.astype(float))
    return np.clip(light * 255, 0, 255).astype(np.uint8)


def light_ground(image: Image, channel: str, pose: Array, backdrop: Backdrop) -> None:
    """Light the painted ground of an image in place, before anything stands on it."""
    size_px = (image.shape[1], image.shape[0])
    horizon = rays(channel, size_px).horizon_row
    ground = image[horizon:]
    if backdrop.condition == NIGHT:
        cv2.multiply(ground, _ground_light(channel, size_px), dst=ground, scale=1 / 255)
    elif backdrop.condition == GLARE and (cut := _sun_cut(channel, size_px, pose, backdrop)) is not None:
        cv2.add(ground, _sun_tiles(size_px)[1][cut][horizon:], dst=ground)


def finish(image: Image, road: NDArray[np.bool_], channel: str, pose: Array, backdrop: Backdrop) -> Image:
    """The painted image with what light does in the air, in the lens and on a wet road."""
    size_px = (image.shape[1], image.shape[0])
    if backdrop.condition == NIGHT:  # lights get a halo, computed at a quarter of the size
        small = cv2.resize(image, (size_px[0] // 4, size_px[1] // 4), interpolation=cv2.INTER_AREA)
        halo = cv2.GaussianBlur(cv2.subtract(small, (_BLOOM_FROM,) * 4), (0, 0), 2.0)
        return cv2.add(image, cv2.resize(halo, size_px, interpolation=cv2.INTER_LINEAR))
    if backdrop.condition == RAIN:
        _reflect(image, road, rays(channel, size_px).horizon_row)
    if backdrop.condition == GLARE and (cut := _sun_cut(channel, size_px, pose, backdrop)) is not None:
        veil = _sun_tiles(size_px)[0][cut]
        return cv2.add(image, cv2.multiply(255 - image, veil, scale=1 / 255))
    return image


def _reflect(image: Image, road: NDArray[np.bool_], horizon: int) -> None:
    """Mix what lies above the horizon, upside down and smeared, into the road's pixels: most near the horizon."""
    rows = min(horizon, len(image) - horizon)
    mirrored = cv2.blur(image[horizon - rows : horizon][::-1], (3, 11))
    away = np.arange(rows) / (0.25 * rows)
    share = ((0.12 + 0.43 * np.exp(-away)) * 255).astype(np.uint8)[:, None, None]  # water mirrors more at a flat angle
    share = np.broadcast_to(share, mirrored.shape).copy()
    ground = image[horizon : horizon + rows]
    mixed = cv2.add(cv2.multiply(ground, 255 - share, scale=1 / 255), cv2.multiply(mirrored, share, scale=1 / 255))
    cv2.copyTo(mixed, road[horizon : horizon + rows].view(np.uint8), ground)


def _sun_cut(channel: str, size_px: tuple[int, int], pose: Array, backdrop: Backdrop) -> tuple[slice, slice] | None:
    """Rows and columns of an image in the tiles around the sun; None when the sun is far out of the picture."""
    width, height = size_px
    lens = intrinsic(RIGS[channel], size_px)
    aside = backdrop.sun_yaw_rad - pose[2] - np.deg2rad(RIGS[channel].yaw_deg)
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
    tiles = np.clip(np.stack([255 * veil, streak]), 0, 255)[..., None] * _SUN_COLOR / 255
    return tiles[0].astype(np.uint8), tiles[1].astype(np.uint8)


def _add_sun(panorama: Image, sun_yaw_rad: float) -> None:
    """The low sun in a sky; columns run to the right from azimuth 0."""
    rows, columns = panorama.shape[:2]
    right = np.arange(columns) / _PER_DEG + np.rad2deg(sun_yaw_rad)
    right = (right + 180.0) % 360.0 - 180.0
    up = _TOP_DEG - np.arange(rows) / _PER_DEG - np.rad2deg(_SUN_ELEVATION_RAD)
    away = np.hypot(right[None], up[:, None])
    share = np.clip(1.3 * np.exp(-((away / 2.0) ** 2)) + 0.7 * np.exp(-away / 14.0), 0, 1)[..., None]
    panorama[:] = panorama + (_SUN_COLOR - panorama) * share


@lru_cache(maxsize=1)
def _rain_tile() -> NDArray[np.float32]:
    """Brightness in levels that streaks of falling rain, and drops on the lens, add to an image."""
    rng, size = np.random.default_rng(22), _NOISE
    tile = np.zeros((size, size), np.float32)
    for x, y in rng.integers(0, size, (size * size // 420, 2)).tolist():
        length = int(rng.integers(8, 24))
        cv2.line(tile, (x, y), (x + length // 6, y + length), float(rng.uniform(8, 30)), 1)
    drops = np.zeros_like(tile)
    for x, y in rng.integers(0, size, (size * size // 14000, 2)).tolist():
        cv2.circle(drops, (x, y), int(rng.integers(2, 6)), float(rng.uniform(14, 34)), cv2.FILLED)
    return (tile + _blurred(drops, 1.2, "reflect")).astype(np.float32)


@lru_cache(maxsize=1)
def _tiles() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two repeating noise tiles in about [-1, 1]: fine grain, and large patches."""
    rng = np.random.default_rng(20)
    fine = rng.normal(size=(_TILE, _TILE)).astype(np.float32)
    octaves = []
    for sigma_px in (2.0, 7.0, 24.0):
        blurred = _blurred(rng.normal(size=(_TILE, _TILE)).astype(np.float32), sigma_px, "wrap")
        octaves.append((blurred / round(float(blurred.std()), 9)).astype(np.float32))  # of unit variance
    return 0.5 * fine + 0.5 * octaves[0], np.asarray(sum(octaves) / 3, np.float32)


def _blurred(tile: NDArray[np.float32], sigma_px: float, border: Literal["wrap", "reflect"]) -> Array:
    """A Gaussian blur by sums in a fixed order: the same bits on every CPU, unlike OpenCV's of floats."""
    reach, blurred = round(4 * sigma_px), tile.astype(np.float64)
    weights = [round(math.exp(-(i**2) / (2 * sigma_px**2)), 9) for i in range(-reach, reach + 1)]
    for _ in range(2):  # down the columns, then, transposed, along the rows
        padded = np.pad(blurred, ((reach, reach), (0, 0)), mode=border)
        mean = np.zeros_like(blurred)
        for first, weight in enumerate(weights):
            mean += padded[first : first + len(blurred)] * (weight / sum(weights))
        blurred = np.ascontiguousarray(mean.T)
    return blurred


@lru_cache(maxsize=4)
def build_backdrop(seed: int, condition: str) -> Backdrop:
    """The far surroundings of a scene, and how its camera sees; the same draws in every weather."""
    # The sun stands about ahead: roads start towards heading 0, and a sun that no driver faces tests no driver.
    sun_yaw_rad = float(np.random.default_rng((seed, 6)).uniform(-0.55, 0.55))
    rng = np.random.default_rng((seed, 2))
    mood = int(rng.integers(len(_MOODS)))  # drawn in any weather, so that everything after it stays the same
    zenith, horizon, brightness = _MOODS[_OVERCAST if condition == RAIN else mood]
    light = 0.15 if condition == NIGHT else 1.0  # brightness of the sky and of what stands far away
    panorama = _sky(rng, np.array(zenith, float), np.array(horizon, float), condition, light)
    if condition == GLARE:
        _add_sun(panorama, sun_yaw_rad)
    _skyline(rng, panorama, light)
    panorama[:] = graded(panorama.astype(float), condition)
    soil = np.array(_SOILS[int(rng.integers(len(_SOILS)))]) * rng.uniform(0.85, 1.1)
    other = np.array(_SOILS[int(rng.integers(len(_SOILS)))])
    patches = np.clip(_tiles()[1][..., None] * 0.7 + 0.4, 0, 1)
    texture = graded(np.asarray(soil * (1 - patches) + other * patches, float), condition)
    exposure = {NIGHT: 1.0, RAIN: 0.95, GLARE: 1.0}.get(condition, brightness)  # lamps or the sun set it
    gain = exposure * rng.uniform(0.88, 1.08) * rng.uniform(0.95, 1.05, 3)
    levels = float(rng.uniform(1.5, 5.0)) + (3.0 if condition == NIGHT else 0.0)
    noise = np.clip(np.random.default_rng(21).normal(0, 1, size=(_NOISE, _NOISE, 3)), -4, 4)
    noise = noise.astype(np.float32) * np.float32(levels)
    if condition == RAIN:
        noise = noise + _rain_tile()[..., None]
    return Backdrop(
        condition=condition,
        sun_yaw_rad=sun_yaw_rad,
        haze_m=110.0 if condition == RAIN else 160.0,
        panorama=panorama,
        soil=np.clip(texture, 0, 255).astype(np.uint8),
        haze=graded(np.array(horizon, float) * 0.9 * light, condition),
        gain=np.clip(np.arange(256)[:, None, None] * gain, 0, 255).astype(np.uint8),
        noise=np.clip(np.rint(noise), -127, 127).astype(np.int8),
    )


def _sky(rng: np.random.Generator, zenith: Array, horizon: Array, condition: str, light: float) -> Image:
    rows, columns = (_TOP_DEG + _BOTTOM_DEG) * _PER_DEG, 360 * _PER_DEG
    height = np.clip(np.linspace(1, -_BOTTOM_DEG / _TOP_DEG, rows), 0, 1)[:, None, None] ** 0.7
    sky = (zenith * height + horizon * (1 - height)).repeat(columns, axis=1)
    clouds, finer = _all_round(rng, (12, 46), (rows, columns)), _all_round(rng, (30, 165), (rows, columns))
    heavy = condition == RAIN  # a darker sky, with clouds that stand out less from it
    level = rng.uniform(-0.3, 0.2) + 0.1 * heavy
    cover = np.clip((clouds + 0.35 * finer) * 0.5 + level, 0, 0.5 if heavy else 0.85)[..., None]
    blue = sky * (0.8 if heavy else 1.0) * (1 - cover)
    return np.clip((blue + np.array([238, 238, 240]) * cover) * light, 0, 255).astype(np.uint8)


def _enlarged(knots: Array, rows: int) -> Array:
    """So many rows between those of `knots` by cubic weights: the same bits on every CPU, unlike OpenCV's resize."""
    place = (np.arange(rows)[:, None] + 0.5) * len(knots) / rows - 0.5
    first, a = np.floor(place), -0.75
    mixed = np.zeros((rows, knots.shape[1]))
    for offset in (-1, 0, 1, 2):
        away = np.abs(place - first - offset)
        near = ((a + 2) * away - (a + 3)) * away * away + 1
        far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
        source = np.clip(first[:, 0] + offset, 0, len(knots) - 1).astype(int)
        mixed += np.where(away <= 1, near, far) * knots[source]
    return mixed


def _all_round(rng: np.random.Generator, knots: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Smooth noise whose last column goes over into its first: the ends overlap and are faded into each other."""
    rows, columns = shape
    overlap = columns // 10
    wide = _enlarged(_enlarged(rng.normal(size=knots), rows).T, columns + overlap).T
    weight = np.linspace(0, 1, overlap)
    wide[:, :overlap] = weight * wide[:, :overlap] + (1 - weight) * wide[:, columns:]
    return np.ascontiguousarray(wide[:, :columns])


def _skyline(rng: np.random.Generator, panorama: Image, light: float) -> None:
    """Hills, far houses with dots of light, and a line of trees, painted onto a fresh sky; the dots need no light."""
    rows, columns = panorama.shape[:2]
    base = _TOP_DEG * _PER_DEG
    turn = np.arange(columns) / columns * 2 * np.pi
    hills = sum(rng.uniform(0.3, 1.2) * np.sin(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 5, 9)) + 2.5
    below = np.arange(rows)[:, None] > base - np.asarray(hills) * _PER_DEG
    panorama[below] = np.array([110, 124, 122]) * rng.uniform(0.8, 1.1) * light
    for _ in range(int(rng.integers(50, 110))):
        x, width, height = int(rng.integers(columns)), int(rng.integers(8, 34)), int(rng.integers(10, 44))
        wall = rng.uniform(0.7, 1.1) * np.array([136, 134, 136]) * rng.uniform(0.9, 1.1, 3) * light
        cv2.rectangle(panorama, (x, base - height), (x + width, rows), wall.tolist(), cv2.FILLED)
        pane = rng.integers(40, 250, 3).tolist()
        for row in range(base - height + 3, base - 3, 5):
            for column in range(x + 2, min(x + width - 2, columns - 2), 5):
                cv2.rectangle(panorama, (column, row), (column + 1, row + 2), pane, cv2.FILLED)
    places = (np.arange(columns) + 0.5) * 240 / columns - 0.5
    crowns = np.abs(np.interp(places, np.arange(240), rng.normal(size=240))) * 1.3 * _PER_DEG + 2
    below = np.arange(rows)[:, None] > base - crowns
    panorama[below] = np.array([66, 84, 58]) * rng.uniform(0.8, 1.2) * light


def texels(view: Rays, pose: Array) -> NDArray[np.int16]:
    """(H - horizon_row, W, 2) the tile pixel, unwrapped, that each pixel of the ground shows."""
    c, s = np.float32(np.cos(pose[2]) * _TILE_PER_M), np.float32(np.sin(pose[2]) * _TILE_PER_M)
    x = c * view.ground_x - s * view.ground_y + np.float32(pose[0] * _TILE_PER_M)
    y = s * view.ground_x + c * view.ground_y + np.float32(pose[1] * _TILE_PER_M)
    return cv2.convertMaps(x, y, cv2.CV_16SC2, nninterpolation=True)[0].astype(np.int16, copy=False)


def paint_far(backdrop: Backdrop, view: Rays, pose: Array, ground: NDArray[np.int16]) -> Image:
    """A fresh image (H, W, 3): sky above the horizon, soil below, at the texels `ground`."""
    horizon, width = view.azimuth_deg.shape
    image = np.empty((horizon + len(ground), width, 3), np.uint8)
    turned = view.azimuth_deg * _PER_DEG - np.float32(np.rad2deg(pose[2]) * _PER_DEG)
    columns = np.mod(turned, np.float32(360 * _PER_DEG))
    rows = (_TOP_DEG - view.elevation_deg) * _PER_DEG
    cv2.remap(backdrop.panorama, columns, rows, cv2.INTER_LINEAR, image[:horizon], cv2.BORDER_WRAP)
    cv2.remap(backdrop.soil, ground, None, cv2.INTER_NEAREST, image[horizon:], cv2.BORDER_WRAP)
    return image


def roughen(image: Image, view: Rays, ground: NDArray[np.int16]) -> None:
    """Add grain that is fixed to the world to the painted ground (rows below the horizon), in place."""
    grain = cv2.remap(_tiles()[0], ground, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
    grain = cv2.multiply(grain, view.grain, scale=14.0)
    below = image[view.horizon_row :]
    cv2.add(below, cv2.merge([grain, grain, grain]), dst=below, dtype=cv2.CV_8U)


def expose(image: Image, backdrop: Backdrop, shift: tuple[int, int]) -> Image:
    """Gain, tint and sensor noise; `shift` is where the noise tile is cut."""
    height, width = image.shape[:2]
    top, left = shift[0] % (_NOISE - height), shift[1] % (_NOISE - width)
    noise = backdrop.noise[top : top + height, left : left + width]
    return np.asarray(cv2.add(cv2.LUT(image, backdrop.gain), noise, dtype=cv2.CV_8U), np.uint8)
