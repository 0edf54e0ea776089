"""Draws what a camera sees of a scenario, and which class each pixel is. Painter's algorithm, far to near."""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stages.scenes.world.backdrop import Backdrop, build_backdrop, expose, paint_far, rays, roughen
from stages.scenes.world.camera import NEAR_M, RIGS, camera_from_scene, clip_near, intrinsic, project
from stages.scenes.world.mesh import KEEP, Mesh
from stages.scenes.world.roads import Array
from stages.scenes.world.scenario import Scenario
from stages.scenes.world.setting import FAR_M, Setting, build_setting

Image = NDArray[np.uint8]
_FRACTION_BITS = 4  # sub-pixel corners in OpenCV's fixed point
_HAZE_M = 160.0  # things fade to the haze as 1 - exp(-distance / this)


@dataclass(frozen=True, eq=False)
class Quads:
    """The n quads of a mesh that one camera sees, far to near."""

    order: NDArray[np.int64]  # (n,) indices into the mesh
    corners_m: NDArray[np.float32]  # (n, 4, 3) camera frame
    distance_m: NDArray[np.float32]  # (n,) of their objects
    colors: Array  # (n, 3)

    def part(self, start: int, stop: int | None) -> "Quads":
        """Some of them, in the same order."""
        cut = slice(start, stop)
        return Quads(self.order[cut], self.corners_m[cut], self.distance_m[cut], self.colors[cut])


@lru_cache(maxsize=4)
def _prepared(scenario: Scenario) -> tuple[Setting, Backdrop]:
    return build_setting(scenario), build_backdrop(scenario.seed)


def draw(scenario: Scenario, step: int, channel: str, size_px: tuple[int, int]) -> tuple[Image, Image]:
    """The image (H, W, 3) RGB and the class map (H, W) of one camera at a key frame; size_px is (W, H).

    Classes: 0 background, 1 road, 2 vehicle, 3 human, 4 sign, 5 barrier (mesh.py).
    """
    setting, backdrop = _prepared(scenario)
    view, pose = rays(channel, size_px), scenario.ego_poses[step]
    lens = intrinsic(RIGS[channel], size_px)
    matrix = camera_from_scene(RIGS[channel], pose)
    image = paint_far(backdrop, view, pose)
    classes = np.zeros(image.shape[:2], np.uint8)
    for surface in setting.surfaces:
        ring = np.column_stack([surface.ring, np.zeros(len(surface.ring)), np.ones(len(surface.ring))]) @ matrix[:3].T
        ring = clip_near(ring)
        if len(ring) > 2:
            fixed = _fixed(project(ring, lens))
            cv2.fillPoly(image, [fixed], surface.color, shift=_FRACTION_BITS)
            cv2.fillPoly(classes, [fixed], surface.label, shift=_FRACTION_BITS)
    quads = _visible(setting, step, matrix, lens, size_px)
    quads = replace(quads, colors=_faded(quads.colors, quads.distance_m, backdrop))
    flat = int(np.count_nonzero(setting.mesh.objects[quads.order] == 0))
    _paint((image, classes), setting.mesh, quads.part(0, flat), lens)
    image[view.horizon_row :] = roughen(image[view.horizon_row :], view, pose)
    _paint((image, classes), setting.mesh, quads.part(flat, None), lens)
    shift = (scenario.seed * 31 + step * 97, scenario.seed * 17 + list(RIGS).index(channel) * 131 + step * 53)
    return expose(image, backdrop, shift), classes


def _visible(setting: Setting, step: int, matrix: Array, lens: Array, size_px: tuple[int, int]) -> Quads:
    """The quads to paint, in their own colours: those before the camera, in its field of view and facing it."""
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
    faces_us = (normal * corners[:, 0]).sum(-1) < 0
    side = np.abs(corners[..., 0]) - half_view * np.maximum(corners[..., 2], 0)
    outside = ((side > 0) & (corners[..., 0] > 0)).all(1) | ((side > 0) & (corners[..., 0] < 0)).all(1)
    kept = faces_us & (corners[..., 2].max(1) > NEAR_M) & ~outside
    kept &= (objects != 0) | (corners[..., 2].min(1) < FAR_M)
    index, corners, distance = index[kept], corners[kept], away[objects[kept]]
    far_first = np.lexsort((index, -distance))
    return Quads(
        order=index[far_first],
        corners_m=corners[far_first].astype(np.float32),
        distance_m=distance[far_first].astype(np.float32),
        colors=mesh.colors[index[far_first]].astype(np.float64),
    )


def _faded(colors: Array, distance_m: NDArray[np.float32], backdrop: Backdrop) -> Array:
    """Colours in the haze; what is painted on the ground, at no distance of its own, keeps its colour."""
    fade = (1 - np.exp(-np.where(distance_m < FAR_M, distance_m, 0.0) / _HAZE_M))[:, None]
    return colors * (1 - fade) + backdrop.haze * fade


def _paint(canvas: tuple[Image, Image], mesh: Mesh, quads: Quads, lens: Array) -> None:
    """Fill image and class map with the quads in their order, one call for each run of one group."""
    image, classes = canvas
    if not len(quads.order):
        return
    rings = list(_fixed(project(quads.corners_m, lens)))
    for at in np.flatnonzero(quads.corners_m[..., 2].min(1) <= NEAR_M).tolist():
        rings[at] = _fixed(project(clip_near(quads.corners_m[at]), lens))
    colors, labels = quads.colors.tolist(), mesh.labels[quads.order].tolist()
    groups = mesh.groups[quads.order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(groups)) + 1, [len(groups)]]).tolist()
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        cv2.fillPoly(image, rings[start:stop], colors[start], shift=_FRACTION_BITS)
        if labels[start] != KEEP:
            cv2.fillPoly(classes, rings[start:stop], labels[start], shift=_FRACTION_BITS)


def _fixed(pixels: Float[np.ndarray, "... 2"]) -> NDArray[np.int32]:
    """Pixel-edge coordinates as OpenCV's fixed-point pixel-centre coordinates."""
    return np.rint((pixels - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)
