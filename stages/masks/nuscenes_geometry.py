"""Foreground from what nuScenes knows: 3-D boxes, and the map's roads and traffic lights, seen by each camera.

Needs no weights. What it cannot know: buildings and trees that hide a road or an object (both then count as
foreground), slopes (the map is flat: roads lie at the ego's height), traffic signs (neither annotated nor in the map).

Walkways are background, and where one overlaps a road the road wins: people cross there, and the map draws driveways
over pavements. `not_road: [walkway]` turns that round. In the drawn world the two share borders only, and cutting those
pixels out costs 0.01 of IoU.

A set of rings is one array of points (P, 3) and, beside it, the ring number of each point (P,), ascending.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from stages.masks import base
from stages.masks.base import CLASSES, Mask
from stages.scenes.base import Boxes, Camera, Frame, move, rotations

# Beginning of a nuScenes category -> class. The paper's barriers are "obstacles on or beside the road". Animals and
# bicycle racks are in none of its classes; a walkway is no road.
CLASS_OF_PREFIX = {"vehicle.": "vehicle", "human.": "human", "movable_object.": "barrier", "traffic_light": "sign"}
ROAD = CLASSES.index("road") + 1
FACES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])
SUBPIXEL_BITS = 4  # cv2 fills polygons given in 1/16 pixel

Window = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Annotator(base.Annotator):
    """Paints the road, then every box as its silhouette where nothing nearer is; what is painted is foreground."""

    scenes: Any  # of stages.scenes.nuscenes: map_polygons, traffic_lights
    range_m: float = 80.0  # of roads and lights: farther away a flat map is wrong by more than their height
    near_m: float = 0.2  # nearest depth that is painted
    min_visible_px: int = 4  # an object with fewer pixels in sight gets no phrase and box (its pixels stay foreground)
    road_layers: Sequence[str] = ("drivable_area", "ped_crossing")  # of the map expansion
    not_road: Sequence[str] = ()  # layers cut out of the road
    images_at_once: int = 1

    def annotate(self, images: Sequence[tuple[Frame, Camera]]) -> list[Mask]:
        """The masks of some images: foreground, class map, and a phrase and box per object in sight."""
        return [self._mask(frame, camera) for frame, camera in images]

    def reads(self, frame: Frame) -> Sequence[object]:
        """The map around the ego."""
        place = frame.location, frame.global_from_ego[:2, 3]
        layers = (tuple(layers) for layers in (self.road_layers, self.not_road) if layers)
        shapes = [self.scenes.map_polygons(place[0], held, place[1], self.range_m) for held in layers]
        return [*shapes, self.scenes.traffic_lights(*place, self.range_m)]

    def _mask(self, frame: Frame, camera: Camera) -> Mask:
        position_m = frame.global_from_ego[:3, 3]
        lights: Boxes = self.scenes.traffic_lights(frame.location, position_m[:2], self.range_m)
        parts = frame.boxes, replace(lights, centers_m=lights.centers_m + [0, 0, position_m[2]])  # above the ground
        numbers = np.array([_class_of(category) for boxes in parts for category in boxes.categories], np.uint8)
        corners = np.concatenate([
            box_corners(boxes.centers_m, boxes.sizes_wlh_m, rotations(boxes.rotations_wxyz)) for boxes in parts
        ])[numbers > 0]  # fmt: skip
        numbers = numbers[numbers > 0]
        owner, windows = self._paint(frame, camera, move(camera.camera_from_global, corners))
        classes = np.concatenate([[0, ROAD], numbers]).astype(np.uint8)[owner]
        shown = {box: bounds for box, window in windows.items() if (bounds := self._bounds(owner, box + 2, window))}
        return Mask(
            foreground=classes > 0,
            phrases=tuple(CLASSES[numbers[box] - 1] for box in shown),
            boxes_xyxy=np.array(list(shown.values()), np.float32).reshape(-1, 4),
            classes=classes,
        )

    def _paint(
        self, frame: Frame, camera: Camera, corners: Float[np.ndarray, "M 8 3"]
    ) -> tuple[Int[np.ndarray, "H W"], dict[int, Window]]:
        """(H, W) owner of each pixel (0 nothing, 1 road, 2 + i box i), and the window of each box that was painted."""
        W, H = camera.size_px
        owner, nearest = np.zeros((H, W), np.int32), np.full((H, W), -np.inf)
        planes = view_planes(camera.intrinsic, camera.size_px, self.near_m)
        for layers, label in ((self.road_layers, ROAD), (self.not_road, 0)):
            for rings_px in self._map_rings_px(frame, camera, planes, tuple(layers)) if layers else ():
                fill_even_odd(owner, rings_px, label)
        entries = entry_planes(corners, camera.intrinsic)
        windows: dict[int, Window] = {}
        # All faces of all boxes are clipped together
        faces = corners[:, FACES].reshape(-1, 3)  # (M * 6 faces * 4 corners, 3)
        pixels, face = clip_and_project(faces, np.arange(len(faces)) // 4, camera.intrinsic, planes)
        for box in map(int, np.unique(face // 6)):
            # What a box hides is the convex hull, wherever it was cut
            points = pixels[face // 6 == box].astype(np.float32)
            outline = cv2.convexHull(points)[:, 0].astype(np.float64)
            window = windows[box] = window_of(outline, camera.size_px)
            depth = inverse_depth(entries[box], window)
            wins = convex_mask(outline, window) & (depth > nearest[window])
            nearest[window][wins] = depth[wins]
            owner[window][wins] = box + 2
        return owner, windows

    def _bounds(self, owner: Int[np.ndarray, "H W"], label: int, window: Window) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 of the pixels with a label (x1, y1 one past the last); none when there are too few."""
        seen = (owner[window] == label).astype(np.uint8)
        if seen.sum() < self.min_visible_px:
            return None
        x, y, width, height = cv2.boundingRect(seen)
        left, top = x + window[1].start, y + window[0].start
        return left, top, left + width, top + height

    def _map_rings_px(
        self, frame: Frame, camera: Camera, planes: Float[np.ndarray, "F 4"], layers: tuple[str, ...]
    ) -> list[list[Float[np.ndarray, "_ 2"]]]:
        """Per map polygon in sight: exterior and holes in pixels. The map has no heights: its z is the ego's."""
        position_m = frame.global_from_ego[:3, 3]
        polygons = self.scenes.map_polygons(frame.location, layers, position_m[:2], self.range_m)
        rings = [(shape, ring) for shape, (_, exterior, holes) in enumerate(polygons) for ring in (exterior, *holes)]
        if not rings:
            return []
        flat = np.concatenate([ring for _, ring in rings])
        points = move(camera.camera_from_global, np.hstack([flat, np.full((len(flat), 1), position_m[2])]))
        number = np.repeat(np.arange(len(rings)), [len(ring) for _, ring in rings])
        pixels, number = clip_and_project(points, number, camera.intrinsic, planes)
        shapes: dict[int, list[Float[np.ndarray, "_ 2"]]] = {}
        for ring_number in np.unique(number):
            shapes.setdefault(rings[ring_number][0], []).append(pixels[number == ring_number])
        return list(shapes.values())


def _class_of(category: str) -> int:
    """The number of a nuScenes category's class; 0 when it is background."""
    return next((CLASSES.index(n) + 1 for prefix, n in CLASS_OF_PREFIX.items() if category.startswith(prefix)), 0)


def box_corners(
    centers_m: Float[np.ndarray, "M 3"], sizes_wlh_m: Float[np.ndarray, "M 3"], turns: Float[np.ndarray, "M 3 3"]
) -> Float[np.ndarray, "M 8 3"]:
    """Corners of boxes; corner i is at the front, left, top where bit 2, 1, 0 of i is set (front: along length)."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    local_m = signs[None] * sizes_wlh_m[:, None, [1, 0, 2]]
    return centers_m[:, None] + local_m @ turns.transpose(0, 2, 1)


def view_planes(
    intrinsic: Float[np.ndarray, "3 3"], size_px: tuple[int, int], near_m: float
) -> Float[np.ndarray, "5 4"]:
    """Planes (n, d), n . p + d >= 0 inside: near and sides, a frame's margin around the image kept."""
    W, H = size_px
    depth, (u, v) = np.array([0.0, 0.0, 1.0]), intrinsic[:2]
    normals = np.array([depth, u + W * depth, 2 * W * depth - u, v + H * depth, 2 * H * depth - v])
    return np.hstack([normals, np.array([[-near_m], [0], [0], [0], [0]])])


def clip_and_project(
    points: Float[np.ndarray, "P 3"],
    ring: Int[np.ndarray, " P"],
    intrinsic: Float[np.ndarray, "3 3"],
    planes: Float[np.ndarray, "F 4"],
) -> tuple[Float[np.ndarray, "Q 2"], Int[np.ndarray, " Q"]]:
    """Pixels of all rings cut by all planes at once (Sutherland-Hodgman, a plane at a time); the centre of the first
    pixel is (0, 0).

    A concave ring stays one ring: its parts hang together by edges along the plane, which an even-odd fill cancels.
    """
    for plane in planes:
        if not len(points):
            break
        height = points @ plane[:3] + plane[3]
        last = np.append(ring[1:] != ring[:-1], True)
        after = np.arange(1, len(ring) + 1)  # the following point of the same ring
        after[last] = np.append(0, np.flatnonzero(last[:-1]) + 1)
        inside = height >= 0
        crosses = inside != inside[after]
        share = np.where(crosses, height / np.where(crosses, height - height[after], 1), 0)
        cuts = points + share[:, None] * (points[after] - points)
        kept = np.stack([inside, crosses], axis=1).ravel()
        points, ring = np.stack([points, cuts], axis=1).reshape(-1, 3)[kept], ring.repeat(2)[kept]
    homogeneous = points @ intrinsic.T
    return homogeneous[:, :2] / homogeneous[:, 2:], ring


def fill_even_odd(canvas: Shaped[np.ndarray, "H W"], rings_px: list[Float[np.ndarray, "_ 2"]], value: int) -> None:
    """Paint one shape, holes among its rings, onto `canvas`."""
    rings = [_fixed_point(ring) for ring in rings_px if len(ring) >= 3]
    if rings:
        cv2.fillPoly(canvas, rings, (value,), lineType=cv2.LINE_8, shift=SUBPIXEL_BITS)


def convex_mask(ring_px: Float[np.ndarray, "Q 2"], window: Window) -> Bool[np.ndarray, "h w"]:
    """Mark each pixel of the window (rows, columns of the image) that lies in a convex ring."""
    rows, columns = window
    canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    if not canvas.size:  # OpenCV refuses it
        return canvas.astype(bool)
    ring = _fixed_point(ring_px - [columns.start, rows.start])
    cv2.fillConvexPoly(canvas, ring, (1,), lineType=cv2.LINE_8, shift=SUBPIXEL_BITS)
    return canvas.astype(bool)


def window_of(ring_px: Float[np.ndarray, "Q 2"], size_px: tuple[int, int]) -> Window:
    """Rows and columns of the image that a ring can touch; empty slices when it is outside."""
    low = np.clip(np.floor(ring_px.min(0)).astype(int) - 1, 0, size_px)
    high = np.clip(np.ceil(ring_px.max(0)).astype(int) + 2, 0, size_px)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def entry_planes(
    corners: Float[np.ndarray, "M 8 3"], intrinsic: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "M 6 3"]:
    """Per face of a box, the inverse depth of its plane as a linear function of (u, v, 1); infinite for averted faces.

    A ray enters a box where it crosses the last of the planes that face the camera: at the least inverse depth. The
    intrinsic matrix has no skew.
    """
    edges = corners[:, [4, 2, 1]] - corners[:, :1]
    inward = edges / (edges**2).sum(axis=2, keepdims=True)  # n . edge = 1
    normals = np.concatenate([inward, -inward], axis=1)
    offsets = np.einsum("mfk,mk->mf", normals, corners.mean(axis=1)) + 0.5
    facing = (offsets < 0)[:, :, None]  # the camera, at the origin, is on the outer side
    u0, v0 = intrinsic[:2, 2]
    along_u, along_v = normals[:, :, 0] / intrinsic[0, 0], normals[:, :, 1] / intrinsic[1, 1]
    rays = np.stack([along_u, along_v, normals[:, :, 2] - along_u * u0 - along_v * v0], axis=2)
    return np.where(facing, rays / np.where(facing, offsets[:, :, None], 1), [0, 0, np.inf])


def inverse_depth(planes: Float[np.ndarray, "6 3"], window: Window) -> Float[np.ndarray, "h w"]:
    """1 / z where the rays of the window's pixels enter a box, in 1/m; infinite when the camera is inside it."""
    v, u = (np.arange(part.start, part.stop) for part in window)
    depth = np.full((len(v), len(u)), np.inf)
    for along_u, along_v, constant in planes[np.isfinite(planes[:, 2])]:
        np.minimum(depth, (along_v * v + constant)[:, None] + along_u * u, out=depth)
    return depth


def _fixed_point(ring_px: Float[np.ndarray, "Q 2"]) -> Int[np.ndarray, "Q 2"]:
    fixed = (ring_px * (1 << SUBPIXEL_BITS)).round(6)  # what lies half-way goes the same way on every CPU
    return np.round(fixed).astype(np.int32)
