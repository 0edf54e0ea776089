"""Draws what a camera sees of a scenario, and which class each pixel is. Painter's algorithm, far to near.

`Setting` is the scenario made visible: the ground's surfaces, and every object as a mesh with its pose and state.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from stages.scenes.world import camera, shapes, weather
from stages.scenes.world.camera import NEAR_M, RIGS, clip_near, project
from stages.scenes.world.roads import CROSSING_M, HALF_ROAD_M, HALF_WALK_M, JUNCTION_M, LANE_D_M, Array, Item, Road
from stages.scenes.world.scenario import NIGHT, RAIN, Scenario
from stages.scenes.world.shapes import BACKGROUND, KEEP, ROAD, Color, Mesh, Sculptor
from stages.scenes.world.weather import Backdrop, Image

_FRACTION_BITS = 4  # sub-pixel corners in OpenCV's fixed point
_WHITE: Color = (228, 228, 222)
_MARKED_M = (-60.0, 230.0)  # nothing is painted beyond
FAR_M = 110.0  # nothing that stands is drawn, and nothing is annotated, further from the ego
NEAR_LIGHT_M, FAR_LIGHT_M = 0.6, 15.0  # the two lights of a crossing, metres behind its stop line
Surface = tuple[Array, Color, int]  # a level polygon, ring (n, 2) in the scene frame, with its class


@dataclass(frozen=True, eq=False)
class Setting:
    """The objects of a scene. Object 0 is what is painted on the ground; then actors, lights, scenery."""

    mesh: Mesh
    poses: Array  # (F, O, 3): x, y, heading
    states: NDArray[np.uint8]  # (F, O): see QUAD
    radii_m: Array  # (O,): no corner of the object is further from its place
    surfaces: list[Surface]  # painted before everything that stands


@lru_cache(maxsize=4)
def build_setting(scenario: Scenario) -> Setting:
    """All objects of a scenario; their looks are drawn from its seed."""
    rng = np.random.default_rng((scenario.seed, 1))
    frames, road = len(scenario.ego_poses), scenario.road
    still = np.zeros(frames, np.uint8)
    objects: list[tuple[Mesh, Array, NDArray[np.integer]]] = [(_markings(rng, scenario), np.zeros((frames, 3)), still)]
    for index, actor in enumerate(scenario.actors):
        mesh = shapes.actor_mesh(actor.category, actor.size_wlh_m, actor.look)
        stride = np.where(actor.moving & ((np.arange(frames) + index) % 2 == 0), shapes.STRIDE_A, shapes.STRIDE_B)
        brake = np.where(actor.braking, shapes.BRAKING, shapes.COASTING)
        objects.append((mesh, actor.poses, stride if actor.category.startswith("human") else brake))
    for index in scenario.traffic.lights:
        bits = np.array([scenario.light_state(index, step) for step in range(frames)])
        for pose, height, arm in light_places(road, scenario.items[index]):
            state = bits | (~bits & 7) << shapes.UNLIT
            objects.append((shapes.light_mesh(height, arm), np.tile(pose, (frames, 1)), state))
    objects += [(mesh, np.tile(pose, (frames, 1)), still) for mesh, pose in _scenery(rng, road)]
    meshes, poses, states = zip(*objects, strict=True)
    return Setting(
        mesh=shapes.gather(meshes),
        poses=np.stack(poses, axis=1),
        states=np.stack(states, axis=1).astype(np.uint8),
        radii_m=np.array([float(np.linalg.norm(mesh["corners_m"].reshape(-1, 3), axis=1).max()) for mesh in meshes]),
        surfaces=_surfaces(rng, road),
    )


def _surfaces(rng: np.random.Generator, road: Road) -> list[Surface]:
    """Pavements, then side roads, then the main road; each slightly of its own grey."""
    grey, walk = float(rng.uniform(72, 104)), float(rng.uniform(135, 170))
    pavement: Color = (walk, walk * 0.98, walk * 0.94)
    paved: list[Surface] = [(road.pavement_ring(side), pavement, BACKGROUND) for side in (-1.0, 1.0)]
    for ring in road.side_rings():
        shade = grey * float(rng.uniform(0.82, 0.95))
        paved.append((ring, (shade, shade * 0.98, shade * 0.95), ROAD))
    return [*paved, (road.main_ring(), (grey, grey, grey * 1.03), ROAD)]


def _markings(rng: np.random.Generator, scenario: Scenario) -> Mesh:
    """Stains, shadows, lines, stop lines and zebras as quads that keep the class of the road below."""
    art, road, items = Sculptor(), scenario.road, scenario.items
    for _ in range(26):  # mended patches and shadows across the road: darker or lighter, without meaning
        s, d = float(rng.uniform(-20, 140)), float(rng.uniform(-5.5, 4.5))
        tone = float(rng.uniform(52, 112))
        length, width = float(rng.uniform(0.6, 7)), float(rng.uniform(0.4, 1.6))
        art.add(_runs(road, np.array([s]), length, (d, d + width)), (tone, tone, tone), KEEP)
    tone = float(rng.uniform(60, 84))
    for d in (LANE_D_M - 0.85, LANE_D_M + 0.6):  # tracks
        art.add(_runs(road, np.arange(-60.0, 160.0, 4.0), 4.0, (d, d + 0.25)), (tone, tone, tone), KEEP)
    lit = [item.start_m for item in items if item.kind in ("red", "green")]
    # Of three crossings two are painted.
    zebras = [item.start_m for item in items if item.kind == "pedestrian" and item.variant * 3 % 1 < 0.7]
    gaps = [(start_m + JUNCTION_M[0] - 1, start_m + JUNCTION_M[1] + 1) for start_m in lit]
    gaps += [(start_m + CROSSING_M[0], start_m + CROSSING_M[1]) for start_m in zebras]
    art.add(_runs(road, np.arange(*_MARKED_M, 7.0), 3.2, (-0.08, 0.08), gaps), _WHITE, KEEP)
    for d in (-3.62, 3.62):
        art.add(_runs(road, np.arange(*_MARKED_M, 4.0), 4.0, (d - 0.06, d + 0.06), gaps), (200, 200, 196), KEEP)
    for start_m in lit:
        art.add(_runs(road, np.array([start_m]), 0.45, (-3.5, -0.15)), _WHITE, KEEP)
    length_m, stripes_m = CROSSING_M[1] - CROSSING_M[0], np.arange(-5.6, 5.2, 1.15)
    for start_m in zebras:
        art.add(_runs(road, np.array([start_m + 0.4]), 0.35, (-3.5, -0.15)), _WHITE, KEEP)
        stripes = [_runs(road, np.array([start_m + CROSSING_M[0]]), length_m, (d, d + 0.55)) for d in stripes_m]
        art.add(np.concatenate(stripes), (235, 235, 230), KEEP)
    return art.finish()


def _runs(
    road: Road, s: Array, length_m: float, d: tuple[float, float], gaps: list[tuple[float, float]] | None = None
) -> Array:
    """Quads (n, 4, 3) along the road that begin at each s, but for those in a gap."""
    for low, high in gaps or []:
        s = s[(s + length_m < low) | (s > high)]
    corners = [road.place(s, d[0]), road.place(s + length_m, d[0]), road.place(s + length_m, d[1]), road.place(s, d[1])]
    quads = np.stack(corners, axis=1)
    return np.concatenate([quads, np.zeros_like(quads[..., :1])], axis=-1)


def light_places(road: Road, item: Item) -> list[tuple[Array, float, float]]:
    """Pose (x, y, heading), height of the lowest edge, and arm of the two lights of a crossing."""
    near, far = item.start_m + NEAR_LIGHT_M, item.start_m + FAR_LIGHT_M
    near_pose = np.array([*road.place(near, -HALF_ROAD_M - 0.7), float(road.yaw_at(near))])
    far_pose = np.array([*road.place(far, -1.9), float(road.yaw_at(far))])
    return [(near_pose, 2.5, 0.0), (far_pose, 4.3, HALF_ROAD_M - 1.2)]


def _scenery(rng: np.random.Generator, road: Road) -> list[tuple[Mesh, Array]]:
    """Houses in rows, and trees, posters, signs and lamps before them; nothing on a road."""
    placed: list[tuple[Mesh, Array]] = []
    for side in (-1.0, 1.0):
        s = -60.0
        while s < 230:
            house = shapes.scenery_mesh("house", int(rng.integers(64)))
            width = float(np.ptp(house["corners_m"][..., 1]))
            if rng.uniform() < 0.8:
                back = HALF_WALK_M + float(rng.uniform(1, 7))
                placed.append((house, _beside(road, s + width / 2, side * back)))
            s += width + float(rng.uniform(0.5, 5))
        placed += _row(rng, road, side, "tree", (11.0, HALF_ROAD_M + 1.5, HALF_WALK_M + 2))
        placed += _row(rng, road, side, "hedge", (15.0, HALF_WALK_M, HALF_WALK_M + 0.6))
        turned = np.pi if side > 0 else 0.0  # those on the left show their faces to the oncoming traffic
        for mesh, pose in _row(rng, road, side, "poster", (26.0, HALF_WALK_M - 1, HALF_WALK_M + 2)):
            aside = pose[2] + side * (np.pi / 2 + rng.uniform(-0.5, 0.5)) * (rng.uniform() < 0.7)
            placed.append((mesh, np.array([*pose[:2], aside])))
        for kind, d in (("lamp", 0.5), ("sign", 0.8)):
            for mesh, pose in _row(rng, road, side, kind, (40.0, HALF_ROAD_M + d, HALF_ROAD_M + d + 0.1)):
                placed.append((mesh, np.array([*pose[:2], pose[2] + side * -np.pi / 2 + turned])))
    clear = road.clearance_m(np.array([_middle(mesh, pose) for mesh, pose in placed]))
    return [item for item, gap in zip(placed, clear, strict=True) if gap > max(0.3, 0.72 * _half_width(item[0]))]


def _row(
    rng: np.random.Generator, road: Road, side: float, kind: str, where: tuple[float, float, float]
) -> list[tuple[Mesh, Array]]:
    """Things of one kind along a side, about `spacing` apart and between two distances of the centre line."""
    spacing, near_m, far_m = where
    starts = np.arange(-55 + rng.uniform(0, spacing), 200, spacing)
    places = starts + rng.uniform(-0.35, 0.35, len(starts)) * spacing
    return [
        (
            shapes.scenery_mesh(kind, int(rng.integers(64))),
            _beside(road, float(s), side * float(rng.uniform(near_m, far_m))),
        )
        for s in places
    ]


def _beside(road: Road, s: float, d: float) -> Array:
    """A pose whose front, -x, faces the road."""
    turn = np.pi / 2 if d > 0 else -np.pi / 2
    return np.array([*road.place(s, d), float(road.yaw_at(s)) + turn])


def _middle(mesh: Mesh, pose: Array) -> Array:
    corners_m = mesh["corners_m"].copy()  # side by side in memory, so that numpy adds them in this order
    x, y = corners_m[..., 0].mean(), corners_m[..., 1].mean()
    return pose[:2] + [np.cos(pose[2]) * x - np.sin(pose[2]) * y, np.sin(pose[2]) * x + np.cos(pose[2]) * y]


def _half_width(mesh: Mesh) -> float:
    low = mesh["corners_m"][..., 2] < 2.0
    return float(np.linalg.norm(np.ptp(mesh["corners_m"][low][:, :2], axis=0))) / 2


def draw(scenario: Scenario, step: int, channel: str, size_px: tuple[int, int]) -> tuple[Image, Image]:
    """The image (H, W, 3) RGB and the class map (H, W) of one camera at a key frame; size_px is (W, H).

    Classes: 0 background, 1 road, 2 vehicle, 3 human, 4 sign, 5 barrier (shapes.py).
    """
    setting, backdrop = build_setting(scenario), weather.build_backdrop(scenario.seed, scenario.condition)
    view, pose = camera.rays(channel, size_px), scenario.ego_poses[step]
    lens = camera.intrinsic(RIGS[channel], size_px)
    matrix = camera.camera_from_scene(RIGS[channel], pose)
    ground = weather.texels(view, pose)
    image, classes = weather.paint_far(backdrop, view, pose, ground), np.zeros((size_px[1], size_px[0]), np.uint8)
    for points, tint, label in setting.surfaces:
        ring = clip_near(points @ matrix[:3, :2].T + matrix[:3, 3])  # z is 0
        if len(ring) > 2:
            color = weather.graded(np.array(tint, float), backdrop.condition).tolist()
            for layer, value in ((image, color), (classes, label)):
                cv2.fillPoly(layer, [_fixed(project(ring, lens))], value, shift=_FRACTION_BITS)
    quads, corners_m, away_m = _visible(setting, step, matrix, lens, size_px)
    colors = _shaded(quads, corners_m, away_m, channel, backdrop)
    flat = int(np.count_nonzero(quads["object"] == 0))
    _paint((image, classes), quads[:flat], corners_m[:flat], colors[:flat], lens)
    weather.roughen(image, view, ground)
    weather.light_ground(image, channel, pose, backdrop)
    _paint((image, classes), quads[flat:], corners_m[flat:], colors[flat:], lens)
    image = weather.finish(image, classes == ROAD, channel, pose, backdrop)
    shift = (scenario.seed * 31 + step * 97, scenario.seed * 17 + list(RIGS).index(channel) * 131 + step * 53)
    return weather.expose(image, backdrop, shift), classes


def _visible(
    setting: Setting, step: int, matrix: Array, lens: Array, size_px: tuple[int, int]
) -> tuple[Mesh, NDArray[np.float32], NDArray[np.float32]]:
    """Quads in view and facing the camera, far to near; corners (n, 4, 3) in its frame; distances (n,) of objects."""
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
    owners, when = mesh["object"], mesh["when"]
    index = np.flatnonzero(seen[owners] & ((when == 0) | ((when & setting.states[step][owners]) != 0)))
    objects = owners[index]
    cos, sin = np.cos(poses[:, 2])[objects, None], np.sin(poses[:, 2])[objects, None]
    local = mesh["corners_m"][index]
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
    return mesh[index[far_first]], corners[far_first].astype(np.float32), distance[far_first].astype(np.float32)


def _shaded(
    quads: Mesh, corners_m: NDArray[np.float32], distance_m: NDArray[np.float32], channel: str, backdrop: Backdrop
) -> Array:
    """Colours (n, 3) in the light and the haze; what is painted on the ground is lit with it, and has no haze."""
    glows, stands = quads["glows"], distance_m < FAR_M
    own = quads["color"].astype(np.float64)
    colors = np.where(glows[:, None], own, weather.graded(own, backdrop.condition))
    if backdrop.condition == NIGHT:
        pose = camera.ego_from_camera(RIGS[channel])
        colors = weather.lit(colors, glows | ~stands, corners_m.mean(1) @ pose[:2, :3].T + pose[:2, 3])
    away_m = np.where(stands, distance_m, 0.0).astype(np.float64)  # exp of float32 differs between CPUs
    lamp_haze = 0.7 if backdrop.condition in (NIGHT, RAIN) else 1.0  # in bad light lamps shine through the haze
    fade = (1 - np.exp(-away_m / backdrop.haze_m)) * np.where(glows, lamp_haze, 1.0)
    return (colors * (1 - fade[:, None]) + backdrop.haze * fade[:, None]).round(6)


def _paint(
    canvas: tuple[Image, Image], quads: Mesh, corners_m: NDArray[np.float32], colors: Array, lens: Array
) -> None:
    """Fill image and class map with the quads in their order, one call for each run of one group."""
    if not len(quads):
        return
    rings = list(_fixed(project(corners_m, lens)))
    for at in np.flatnonzero(corners_m[..., 2].min(1) <= NEAR_M).tolist():
        rings[at] = _fixed(project(clip_near(corners_m[at]), lens))
    labels, values = quads["label"].tolist(), colors.tolist()
    starts = [0, *(np.flatnonzero(np.diff(quads["group"])) + 1).tolist(), len(quads)]
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        cv2.fillPoly(canvas[0], rings[start:stop], values[start], shift=_FRACTION_BITS)
        if labels[start] != KEEP:
            cv2.fillPoly(canvas[1], rings[start:stop], labels[start], shift=_FRACTION_BITS)


def _fixed(pixels: Float[np.ndarray, "... 2"]) -> NDArray[np.int32]:
    """Pixel-edge coordinates as OpenCV's fixed-point pixel-centre coordinates."""
    fixed = (pixels - 0.5) * (1 << _FRACTION_BITS)
    return np.rint(fixed.round(6)).astype(np.int32)  # rounded: what lies half-way goes the same way on every CPU
