"""A scenario made visible: every object as a mesh, with its pose and state at each key frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.scenes.world import scenery, shapes
from stages.scenes.world.ground import Surface, markings, surfaces
from stages.scenes.world.mesh import Mesh, gather
from stages.scenes.world.program import Item
from stages.scenes.world.roads import HALF_ROAD_M, HALF_WALK_M, Array, Road
from stages.scenes.world.scenario import Scenario

FAR_M = 110.0  # nothing that stands is drawn, and nothing is annotated, further from the ego
NEAR_LIGHT_M, FAR_LIGHT_M = 0.6, 15.0  # the two lights of a crossing, metres behind its stop line


@dataclass(frozen=True, eq=False)
class Setting:
    """The objects of a scene. Object 0 is what is painted on the ground; then actors, lights, scenery."""

    mesh: Mesh
    poses: Array  # (F, O, 3): x, y, heading
    states: NDArray[np.uint8]  # (F, O): see Mesh.when
    radii_m: Array  # (O,): no corner of the object is further from its place
    surfaces: list[Surface]
    outlines_m: Array  # (P, 3): the corners of all surfaces, scene frame
    outline_of: NDArray[np.int64]  # (P,): index of the surface


def light_places(road: Road, item: Item) -> list[tuple[Array, float, float]]:
    """Pose (x, y, heading), height of the lowest edge, and arm of the two lights of a crossing."""
    places = []
    for along, d, height, arm in (
        (NEAR_LIGHT_M, -HALF_ROAD_M - 0.7, 2.5, 0.0),
        (FAR_LIGHT_M, -1.9, 4.3, HALF_ROAD_M - 1.2),
    ):
        s = item.start_m + along
        places.append((np.array([*road.place(s, d), float(road.yaw_at(s))]), height, arm))
    return places


def build_setting(scenario: Scenario) -> Setting:
    """All objects of a scenario; their looks are drawn from its seed."""
    rng = np.random.default_rng((scenario.seed, 1))
    frames = len(scenario.ego_poses)
    road = scenario.road
    meshes = [markings(rng, road, scenario.program)]
    poses: list[Array] = [np.zeros((frames, 3))]
    states = [np.zeros(frames, np.uint8)]
    for index, actor in enumerate(scenario.actors):
        meshes.append(shapes.actor_mesh(actor.category, actor.size_wlh_m, actor.look))
        poses.append(actor.poses)
        stride = np.where(actor.moving & ((np.arange(frames) + index) % 2 == 0), shapes.STRIDE_A, shapes.STRIDE_B)
        brake = np.where(actor.braking, shapes.BRAKING, shapes.COASTING)
        states.append((stride if actor.category.startswith("human") else brake).astype(np.uint8))
    for index in scenario.traffic.lights:
        bits = np.array([scenario.light_state(index, step) for step in range(frames)])
        for pose, height, arm in light_places(road, scenario.program.items[index]):
            meshes.append(shapes.light_mesh(height, arm))
            poses.append(np.tile(pose, (frames, 1)))
            states.append((bits | (~bits & 7) << shapes.UNLIT).astype(np.uint8))
    for mesh, pose in _scenery(rng, road):
        meshes.append(mesh)
        poses.append(np.tile(pose, (frames, 1)))
        states.append(np.zeros(frames, np.uint8))
    radii = np.array([float(np.linalg.norm(mesh.quads_m.reshape(-1, 3), axis=1).max()) for mesh in meshes])
    paved = surfaces(rng, road)
    corners = np.concatenate([surface.ring for surface in paved])
    return Setting(
        mesh=gather(meshes),
        poses=np.stack(poses, axis=1),
        states=np.stack(states, axis=1),
        radii_m=radii,
        surfaces=paved,
        outlines_m=np.column_stack([corners, np.zeros(len(corners))]),
        outline_of=np.repeat(np.arange(len(paved)), [len(surface.ring) for surface in paved]),
    )


def _scenery(rng: np.random.Generator, road: Road) -> list[tuple[Mesh, Array]]:
    """Houses in rows, and trees, posters, signs and lamps before them; nothing on a road."""
    placed: list[tuple[Mesh, Array]] = []
    for side in (-1.0, 1.0):
        s = -60.0
        while s < 230:
            house = _any(rng, "house")
            width = float(np.ptp(house.quads_m[..., 1]))
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
    room = [max(0.3, 0.72 * _half_width(mesh)) for mesh, _ in placed]
    return [item for item, gap, wanted in zip(placed, clear, room, strict=True) if gap > wanted]


def _any(rng: np.random.Generator, kind: str) -> Mesh:
    return scenery.variant(kind, int(rng.integers(scenery.VARIANTS)))


def _row(
    rng: np.random.Generator, road: Road, side: float, kind: str, where: tuple[float, float, float]
) -> list[tuple[Mesh, Array]]:
    """Things of one kind along a side, about `spacing` apart and between two distances of the centre line."""
    spacing, near_m, far_m = where
    starts = np.arange(-55 + rng.uniform(0, spacing), 200, spacing)
    places = starts + rng.uniform(-0.35, 0.35, len(starts)) * spacing
    return [(_any(rng, kind), _beside(road, float(s), side * float(rng.uniform(near_m, far_m)))) for s in places]


def _beside(road: Road, s: float, d: float) -> Array:
    """A pose whose front, -x, faces the road."""
    turn = np.pi / 2 if d > 0 else -np.pi / 2
    return np.array([*road.place(s, d), float(road.yaw_at(s)) + turn])


def _middle(mesh: Mesh, pose: Array) -> Array:
    x, y = mesh.quads_m[..., 0].mean(), mesh.quads_m[..., 1].mean()
    return pose[:2] + [np.cos(pose[2]) * x - np.sin(pose[2]) * y, np.sin(pose[2]) * x + np.cos(pose[2]) * y]


def _half_width(mesh: Mesh) -> float:
    low = mesh.quads_m[..., 2] < 2.0
    spread = np.ptp(mesh.quads_m[low][:, :2], axis=0)
    return float(np.linalg.norm(spread)) / 2
