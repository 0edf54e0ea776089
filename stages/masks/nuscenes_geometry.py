"""Foreground from what nuScenes knows: 3-D boxes, and the map's roads and traffic lights, seen by each camera.

Needs no weights. What it cannot know: buildings and trees that hide a road or an object (both then count as
foreground), slopes (the map is flat: roads lie at the ego's height), traffic signs (neither annotated nor in the map).

Walkways are background, and where one overlaps a road the road wins: people cross there, and the map draws driveways
over pavements. `not_road: [walkway]` turns that round. In the drawn world the two share borders only, and cutting those
pixels out costs 0.01 of IoU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.masks import base, projection
from stages.masks.base import CLASSES, Mask
from stages.scenes.base import Boxes, Camera, Frame, move, rotations

# Beginning of a nuScenes category -> class. The paper's barriers are "obstacles on or beside the road". Animals and
# bicycle racks are in none of its classes; a walkway is no road.
CLASS_OF_PREFIX = {
    "vehicle.": "vehicle",
    "human.": "human",
    "movable_object.": "barrier",
    "traffic_light": "sign",
}
ROAD = CLASSES.index("road") + 1
BACKGROUND = 0

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
        parts = frame.boxes, self._lights_above_ground(frame)
        numbers = np.array([_class_of(category) for boxes in parts for category in boxes.categories], np.uint8)
        corners = np.concatenate([
            projection.box_corners(boxes.centers_m, boxes.sizes_wlh_m, rotations(boxes.rotations_wxyz))
            for boxes in parts
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

    def _lights_above_ground(self, frame: Frame) -> Boxes:
        position_m = frame.global_from_ego[:3, 3]
        lights = self.scenes.traffic_lights(frame.location, position_m[:2], self.range_m)
        return replace(lights, centers_m=lights.centers_m + [0, 0, position_m[2]])

    def _paint(
        self, frame: Frame, camera: Camera, corners: NDArray[np.float64]
    ) -> tuple[NDArray[np.int32], dict[int, Window]]:
        """(H, W) owner of each pixel (0 nothing, 1 road, 2 + i box i), and the window of each box that was painted."""
        W, H = camera.size_px
        owner, nearest = np.zeros((H, W), np.int32), np.full((H, W), -np.inf)
        planes = projection.view_planes(camera.intrinsic, camera.size_px, self.near_m)
        for layers, label in ((self.road_layers, ROAD), (self.not_road, BACKGROUND)):
            for rings_px in self._map_rings_px(frame, camera, planes, tuple(layers)) if layers else ():
                projection.fill_even_odd(owner, rings_px, label)
        entries = projection.entry_planes(corners, camera.intrinsic)
        windows: dict[int, Window] = {}
        for box, outline in _silhouettes_px(corners, camera.intrinsic, planes).items():
            window = windows[box] = projection.window_of(outline, camera.size_px)
            depth = projection.inverse_depth(entries[box], window)
            wins = projection.convex_mask(outline, window) & (depth > nearest[window])
            nearest[window][wins] = depth[wins]
            owner[window][wins] = box + 2
        return owner, windows

    def _bounds(self, owner: NDArray[np.int32], label: int, window: Window) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 of the pixels with a label (x1, y1 one past the last); none when there are too few."""
        rows, columns = window
        ys, xs = np.nonzero(owner[window] == label)
        if len(xs) < self.min_visible_px:
            return None
        left, top = columns.start, rows.start
        return left + int(xs.min()), top + int(ys.min()), left + int(xs.max()) + 1, top + int(ys.max()) + 1

    def _map_rings_px(
        self, frame: Frame, camera: Camera, planes: NDArray[np.float64], layers: tuple[str, ...]
    ) -> list[list[NDArray[np.float64]]]:
        """Per map polygon in sight: exterior and holes in pixels. The map has no heights: its z is the ego's."""
        position_m = frame.global_from_ego[:3, 3]
        polygons = self.scenes.map_polygons(frame.location, layers, position_m[:2], self.range_m)
        rings = [(shape, ring) for shape, (_, exterior, holes) in enumerate(polygons) for ring in (exterior, *holes)]
        if not rings:
            return []
        flat = np.concatenate([ring for _, ring in rings])
        points = move(camera.camera_from_global, np.hstack([flat, np.full((len(flat), 1), position_m[2])]))
        number = np.repeat(np.arange(len(rings)), [len(ring) for _, ring in rings])
        pixels, number = _clip_and_project(points, number, camera.intrinsic, planes)
        shapes: dict[int, list[NDArray[np.float64]]] = {}
        for ring_number in np.unique(number):
            shapes.setdefault(rings[ring_number][0], []).append(pixels[number == ring_number])
        return list(shapes.values())


def _class_of(category: str) -> int:
    """The number of a nuScenes category's class; 0 when it is background."""
    return next((CLASSES.index(n) + 1 for prefix, n in CLASS_OF_PREFIX.items() if category.startswith(prefix)), 0)


def _clip_and_project(
    points: NDArray[np.float64], ring: NDArray[np.int64], intrinsic: NDArray[np.float64], planes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    points, ring = projection.clip(points, ring, planes)
    return projection.project(points, intrinsic), ring


def _silhouettes_px(
    corners: NDArray[np.float64], intrinsic: NDArray[np.float64], planes: NDArray[np.float64]
) -> dict[int, NDArray[np.float64]]:
    """Silhouette by box number, for the boxes that the camera sees; all faces of all boxes are clipped together."""
    faces = corners[:, projection.FACES].reshape(-1, 3)  # (M * 6 faces * 4 corners, 3)
    pixels, face = _clip_and_project(faces, np.arange(len(faces)) // 4, intrinsic, planes)
    box = face // 6
    return {int(i): projection.silhouette(pixels[box == i]) for i in np.unique(box)}
