"""Draws what a camera sees of a scenario, and which class each pixel is. Painter's algorithm, far to near."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stages.scenes.world import camera, weather
from stages.scenes.world.camera import NEAR_M, RIGS, clip_near, project
from stages.scenes.world.roads import Array
from stages.scenes.world.scenario import NIGHT, Scenario
from stages.scenes.world.setting import FAR_M, Setting, build_setting
from stages.scenes.world.shapes import KEEP, ROAD, Mesh
from stages.scenes.world.weather import Backdrop, Image, Weather

_FRACTION_BITS = 4  # sub-pixel corners in OpenCV's fixed point


class Quads(NamedTuple):
    """The n quads of a mesh that one camera sees, far to near."""

    order: NDArray[np.int64]  # (n,) indices into the mesh
    corners_m: NDArray[np.float32]  # (n, 4, 3) camera frame
    distance_m: NDArray[np.float32]  # (n,) of their objects


@lru_cache(maxsize=4)
def _prepared(scenario: Scenario) -> tuple[Setting, Backdrop, Weather]:
    air = weather.build_weather(scenario.seed, scenario.condition)
    return build_setting(scenario), weather.build_backdrop(scenario.seed, air), air


def draw(scenario: Scenario, step: int, channel: str, size_px: tuple[int, int]) -> tuple[Image, Image]:
    """The image (H, W, 3) RGB and the class map (H, W) of one camera at a key frame; size_px is (W, H).

    Classes: 0 background, 1 road, 2 vehicle, 3 human, 4 sign, 5 barrier (shapes.py).
    """
    setting, backdrop, air = _prepared(scenario)
    view, pose = camera.rays(channel, size_px), scenario.ego_poses[step]
    lens = camera.intrinsic(RIGS[channel], size_px)
    matrix = camera.camera_from_scene(RIGS[channel], pose)
    ground = weather.texels(view, pose)
    canvas = weather.paint_far(backdrop, view, pose, ground), np.zeros((size_px[1], size_px[0]), np.uint8)
    image, classes = canvas
    _pave(canvas, setting, matrix, lens, air)
    quads = _visible(setting, step, matrix, lens, size_px)
    colors = _shaded(quads, setting.mesh, channel, backdrop, air)
    flat = int(np.count_nonzero(setting.mesh.objects[quads.order] == 0))
    _paint(canvas, setting.mesh, quads, colors, slice(flat), lens)
    weather.roughen(image, view, ground)
    weather.light_ground(image, channel, pose, air)
    _paint(canvas, setting.mesh, quads, colors, slice(flat, None), lens)
    image = weather.finish(image, classes == ROAD, channel, pose, air)
    shift = (scenario.seed * 31 + step * 97, scenario.seed * 17 + list(RIGS).index(channel) * 131 + step * 53)
    return weather.expose(image, backdrop, shift), classes


def _pave(canvas: tuple[Image, Image], setting: Setting, matrix: Array, lens: Array, air: Weather) -> None:
    """Fill image and class map with the surfaces, in their order."""
    for surface in setting.surfaces:
        ring = clip_near(surface.ring @ matrix[:3, :2].T + matrix[:3, 3])  # z is 0
        if len(ring) > 2:
            color = weather.graded(np.array(surface.color, float), air).tolist()
            for layer, value in zip(canvas, (color, surface.label), strict=True):
                cv2.fillPoly(layer, [_fixed(project(ring, lens))], value, shift=_FRACTION_BITS)


def _visible(setting: Setting, step: int, matrix: Array, lens: Array, size_px: tuple[int, int]) -> Quads:
    """The quads to paint: those before the camera, in its field of view and facing it."""
    mesh, poses = setting.mesh, setting.poses[step]
    places = np.column_stack([poses[:, :2], np.zeros(len(poses)), np.ones(len(poses))]) @ matrix[:3].T
    away = np.hypot(places[:, 0], places[:, 2])
    half_view = size_px[0] / 2 / lens[0, 0]
    reach = setting.radii_m * np.hypot(1.0, half_view)
    seen = (
        (places[:, 2] > -setting.radii_m)
        & (np.abs(places[:, 0]) < np.maximum(places[:, 2], 0) * half_view + reach)
        & (away < FAR_M)
    )
    seen[0] = True
    away[0] = 1e6  # the ground comes first
    chosen = seen[mesh.objects] & ((mesh.when == 0) | ((mesh.when & setting.states[step][mesh.objects]) != 0))
    index = np.flatnonzero(chosen)
    objects = mesh.objects[index]
    cos, sin = np.cos(poses[:, 2])[objects, None], np.sin(poses[:, 2])[objects, None]
    local = mesh.quads_m[index]
    x = cos * local[..., 0] - sin * local[..., 1] + poses[objects, None, 0]
    y = sin * local[..., 0] + cos * local[..., 1] + poses[objects, None, 1]
    corners = np.stack([x, y, local[..., 2]], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces_us = (normal * corners[:, 0]).sum(-1).round(9) < 0
    side = np.abs(corners[..., 0]) - half_view * np.maximum(corners[..., 2], 0)
    outside = ((side > 0) & (corners[..., 0] > 0)).all(1) | ((side > 0) & (corners[..., 0] < 0)).all(1)
    kept = faces_us & (corners[..., 2].max(1) > NEAR_M) & ~outside
    kept &= (objects != 0) | (corners[..., 2].min(1) < FAR_M)
    index, corners, distance = index[kept], corners[kept], away[objects[kept]]
    far_first = np.lexsort((index, -distance.round(6)))
    return Quads(index[far_first], corners[far_first].astype(np.float32), distance[far_first].astype(np.float32))


def _shaded(quads: Quads, mesh: Mesh, channel: str, backdrop: Backdrop, air: Weather) -> Array:
    """Colours (n, 3) in the light and the haze; what is painted on the ground is lit with it, and has no haze."""
    glows, stands = mesh.glows[quads.order], quads.distance_m < FAR_M
    own = mesh.colors[quads.order].astype(np.float64)
    colors = np.where(glows[:, None], own, weather.graded(own, air))
    if air.condition == NIGHT:
        pose = camera.ego_from_camera(RIGS[channel])
        colors = weather.lit(colors, glows | ~stands, quads.corners_m.mean(1) @ pose[:2, :3].T + pose[:2, 3])
    away_m = np.where(stands, quads.distance_m, 0.0).astype(np.float64)  # exp of float32 differs between CPUs
    fade = (1 - np.exp(-away_m / air.haze_m)) * np.where(glows, air.lamp_haze, 1.0)
    return (colors * (1 - fade[:, None]) + backdrop.haze * fade[:, None]).round(6)


def _paint(canvas: tuple[Image, Image], mesh: Mesh, quads: Quads, colors: Array, part: slice, lens: Array) -> None:
    """Fill image and class map with a part of the quads in their order, one call for each run of one group."""
    order, corners_m, values = quads.order[part], quads.corners_m[part], colors[part].tolist()
    if not len(order):
        return
    rings = list(_fixed(project(corners_m, lens)))
    for at in np.flatnonzero(corners_m[..., 2].min(1) <= NEAR_M).tolist():
        rings[at] = _fixed(project(clip_near(corners_m[at]), lens))
    labels = mesh.labels[order].tolist()
    starts = [0, *(np.flatnonzero(np.diff(mesh.groups[order])) + 1).tolist(), len(order)]
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        cv2.fillPoly(canvas[0], rings[start:stop], values[start], shift=_FRACTION_BITS)
        if labels[start] != KEEP:
            cv2.fillPoly(canvas[1], rings[start:stop], labels[start], shift=_FRACTION_BITS)


def _fixed(pixels: Float[np.ndarray, "... 2"]) -> NDArray[np.int32]:
    """Pixel-edge coordinates as OpenCV's fixed-point pixel-centre coordinates."""
    fixed = (pixels - 0.5) * (1 << _FRACTION_BITS)
    return np.rint(fixed.round(6)).astype(np.int32)  # rounded: what lies half-way goes the same way on every CPU
