"""Objects as flat quadrilaterals: vehicles, people, cones, lights, and what stands beside the road.

Each is a Mesh in its own frame: x forward, y left, z up, the ground at z = 0. Lights, brake lights and cones are drawn
somewhat larger than life, so that they stay visible at 336 x 196 pixels.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from stages.scenes.world.roads import Array

# The numbering of stages.masks.base.CLASSES: scenes may not import masks; a test asserts that the two agree.
BACKGROUND, ROAD, VEHICLE, HUMAN, SIGN, BARRIER = range(6)
KEEP = 255  # paints the image only: a shadow, a window, a marking takes the class of what it lies on

Color = tuple[int | float, int | float, int | float]  # RGB, 0..255
Size = tuple[float, float, float]  # width, length, height in metres
Span = tuple[float, float]
Rect = tuple[float, float, float, float]  # x0, x1, y0, y1
_SHADES = (0.92, 0.80, 1.0, 0.72, 1.12)  # of a box's front, back, left, right and top
_FACES = np.array([(1, 2, 6, 5), (3, 0, 4, 7), (2, 3, 7, 6), (0, 1, 5, 4), (4, 5, 6, 7)])  # corners of each
BRAKING, COASTING = 1, 2  # state bits of a vehicle
STRIDE_A, STRIDE_B = 1, 2  # state bits of a pedestrian
UNLIT = 3  # a light's state bits are shifted by this for "not lit"
_PAINTS: tuple[Color, ...] = (
    (200, 200, 205), (40, 42, 48), (150, 30, 35), (30, 60, 140), (225, 225, 220), (110, 115, 120), (190, 160, 60),
    (40, 110, 80), (120, 80, 50),
)  # fmt: skip
_CLOTHES: tuple[Color, ...] = (
    (220, 60, 50), (240, 200, 40), (50, 90, 200), (235, 235, 235), (40, 40, 45), (60, 160, 90),
    (230, 120, 180), (250, 130, 30),
)  # fmt: skip
_SKIN: tuple[Color, ...] = ((230, 190, 160), (150, 100, 70), (90, 60, 45))
_LAMPS: tuple[tuple[int, Color, Color], ...] = (  # of a traffic light: state bit, colour when lit and when not
    (1, (255, 24, 18), (70, 16, 16)), (2, (255, 190, 20), (66, 50, 12)), (4, (30, 255, 110), (12, 58, 30)),
)  # fmt: skip
_GLASS: Color = (35, 45, 58)
_SHADOW: Color = (38, 38, 42)
_WALLS: tuple[Color, ...] = (
    (150, 110, 90), (190, 180, 165), (120, 125, 130), (170, 140, 110), (205, 195, 175), (110, 80, 70),
    (160, 165, 175), (140, 60, 50),
)  # fmt: skip
# Windows and shop fronts, red and green ones among them: the colour of a light is no clue by itself.
_PANES: tuple[Color, ...] = (
    (60, 75, 95), (40, 45, 55), (230, 215, 150), (90, 120, 150), (210, 40, 35), (40, 190, 90),
    (245, 200, 70), (130, 150, 170),
)  # fmt: skip
_BOARDS: tuple[tuple[Color, Color], ...] = (  # rim and face of a sign
    ((210, 25, 25), (245, 245, 245)), ((30, 80, 190), (240, 240, 250)), ((240, 190, 20), (30, 30, 30)),
    ((210, 25, 25), (210, 25, 25)),
)  # fmt: skip
_LEAVES: tuple[Color, ...] = ((60, 105, 45), (80, 125, 50), (45, 85, 50), (120, 120, 45), (150, 95, 40))


QUAD = np.dtype(
    [
        ("corners_m", np.float32, (4, 3)),  # in the frame of its object, counter-clockwise seen from outside
        ("color", np.float32, 3),
        ("label", np.uint8),
        ("group", np.int32),  # its quads follow one another, share a colour, do not overlap: one call paints them
        ("when", np.uint8),  # 0: always; else shown only while its object's state has one of these bits
        ("object", np.int32),
        ("glows", np.bool_),  # a lamp: it needs no light to be seen
    ]
)
Mesh = np.ndarray  # (Q,) of QUAD, in painting order


def dimmed(color: Color, gain: float) -> Color:
    """A colour of the same hue, `gain` times as bright."""
    return color[0] * gain, color[1] * gain, color[2] * gain


class Sculptor:
    """Collects the quads of one object, in painting order."""

    def __init__(self) -> None:
        self._parts: list[Mesh] = []

    def add(self, quads: Array, color: Color, label: int, when: int = 0, glows: bool = False) -> None:
        """One group of quads (n, 4, 3) or (4, 3)."""
        part = np.zeros(quads.size // 12, QUAD)
        part["corners_m"], part["color"], part["label"] = quads.reshape(-1, 4, 3), color, label
        part["group"], part["when"], part["glows"] = len(self._parts), when, glows
        self._parts.append(part)

    def flat(self, x: Span, y: Span, z: float, label: int) -> None:
        """A level shadow."""
        self.add(np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)], float), _SHADOW, label)

    def box(self, x: Span, y: Span, z: Span, color: Color, label: int, glows: bool = False) -> Array:
        """An upright box; returns its faces (5, 4, 3): front, back, left, right, top."""
        return self.frustum((*x, *y), (*x, *y), z, (color, label), glows=glows)

    def frustum(
        self, low: Rect, high: Rect, z: Span, paint: tuple[Color, int], when: int = 0, glows: bool = False
    ) -> Array:
        """A box with another upper rectangle; corners of a face from lower left, counter-clockwise outside."""
        (a0, a1, b0, b1), (c0, c1, d0, d1), (z0, z1), (color, label) = low, high, z, paint
        below = [(a0, b0, z0), (a1, b0, z0), (a1, b1, z0), (a0, b1, z0)]
        above = [(c0, d0, z1), (c1, d0, z1), (c1, d1, z1), (c0, d1, z1)]
        faces = np.array([*below, *above], float)[_FACES]
        for face, shade in zip(faces, _SHADES, strict=True):
            self.add(face, dimmed(color, shade), label, when, glows)
        return faces

    def panes(self, faces: Array, u: Sequence[Span], v: Sequence[Span], color: Color, label: int = KEEP) -> None:
        """On each of the faces (n, 4, 3) a group of the quads that `inset` makes."""
        for face in faces:
            self.add(inset(face, u, v), color, label)

    def finish(self) -> Mesh:
        """All quads, of object 0."""
        return np.concatenate(self._parts)


def inset(face: Array, u: Sequence[Span], v: Sequence[Span]) -> Array:
    """Quads (n, 4, 3) on a face (4, 3), each between shares u (left to right) and v (bottom to top); one v for all."""
    pairs = zip(u, v if len(v) > 1 else [v[0]] * len(u), strict=True)
    uv = np.array([[(a, c), (b, c), (b, d), (a, d)] for (a, b), (c, d) in pairs])
    s, t = uv[..., :1], uv[..., 1:]
    return (1 - s) * (1 - t) * face[0] + s * (1 - t) * face[1] + s * t * face[2] + (1 - s) * t * face[3]


def gather(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many objects: object i is meshes[i]."""
    counts = [len(mesh) for mesh in meshes]
    joined = np.concatenate(meshes)
    joined["group"] += np.repeat(np.cumsum([0] + [mesh["group"][-1] + 1 for mesh in meshes])[:-1], counts)
    joined["object"] = np.repeat(np.arange(len(meshes)), counts)
    return joined


def _pick(rng: np.random.Generator, colors: tuple[Color, ...], darkest: float = 0.85, lightest: float = 1.12) -> Color:
    base = colors[int(rng.integers(len(colors)))]
    return dimmed(base, float(rng.uniform(darkest, lightest)))


def _vary(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return _pick(rng, colors, 0.8, 1.15)


def actor_mesh(category: str, size_wlh_m: Size, look: int) -> Mesh:
    """The mesh of an annotated object; it fills its box."""
    art = Sculptor()
    _ACTORS[category.split(".")[-1]](art, np.random.default_rng(look), size_wlh_m)
    return art.finish()


def _chassis(art: Sculptor, size: Size, aside_m: float, radius: float) -> tuple[Span, Span]:
    """Shadows and wheels; returns the spans of the vehicle along x and y."""
    w, length, _ = size
    x, y = (-length / 2, length / 2), (-w / 2, w / 2)
    art.flat((x[0] - 0.1, x[1] + 0.1), (y[0] - aside_m, y[1] + aside_m), 0.01, KEEP)
    art.flat(x, y, 0.02, VEHICLE)
    width = w * 0.98
    for at in (-0.31 * length, 0.31 * length):
        art.box((at - radius, at + radius), (-width / 2, width / 2), (0.0, 2 * radius), (22, 22, 24), VEHICLE)
    return x, y


def _lamps(art: Sculptor, rear: Array, front: Array, v: Span, width: float) -> None:
    """Tail lamps that light up while braking, and head lamps."""
    sides = [(0.02, width), (1 - width, 1 - 0.02)]
    core = inset(rear, [(s[0] + 0.25 * width, s[1] - 0.25 * width) for s in sides], [(v[0] + 0.05, v[1] - 0.05)])
    art.add(inset(rear, sides, [v]), (255, 26, 22), KEEP, BRAKING, glows=True)
    art.add(core, (255, 150, 120), KEEP, BRAKING, glows=True)
    art.add(inset(rear, sides, [v]), (88, 14, 18), KEEP, COASTING, glows=True)
    art.add(inset(front, sides, [v]), (250, 248, 225), KEEP, glows=True)


def _car(art: Sculptor, rng: np.random.Generator, size: Size) -> None:
    _, length, h = size
    paint = _pick(rng, _PAINTS)
    x, y = _chassis(art, size, 0.12, 0.34)
    body = art.box(x, y, (0.22, 0.58 * h), paint, VEHICLE)
    art.panes(body[1:2], [(0.38, 0.62)], [(0.12, 0.3)], (215, 210, 190))
    _lamps(art, body[1], body[0], (0.48, 0.95), 0.24)
    back = rng.uniform(0.40, 0.47)
    low = (-back * length, 0.24 * length, y[0] * 0.96, y[1] * 0.96)
    high = (-(back - 0.1) * length, 0.06 * length, y[0] * 0.78, y[1] * 0.78)
    cabin = art.frustum(low, high, (0.58 * h, h), (paint, VEHICLE))
    art.panes(cabin[:2], [(0.08, 0.92)], [(0.1, 0.86)], _GLASS)
    art.panes(cabin[2:4], [(0.08, 0.48), (0.53, 0.92)], [(0.1, 0.85)], _GLASS)
    art.add(inset(cabin[1], [(0.36, 0.64)], [(0.88, 1.0)]), (255, 30, 25), KEEP, BRAKING, glows=True)


def _bus(art: Sculptor, rng: np.random.Generator, size: Size) -> None:
    """A box with rows of windows."""
    paint = _pick(rng, _PAINTS)
    x, y = _chassis(art, size, 0.15, 0.48)
    body = art.box(x, y, (0.3, size[2]), paint, VEHICLE)
    art.panes(body[2:4], [(a, a + 0.1) for a in np.linspace(0.04, 0.86, 7)], [(0.5, 0.85)], _GLASS)
    art.panes(body[:2], [(0.1, 0.9)], [(0.5, 0.85)], _GLASS)
    _lamps(art, body[1], body[0], (0.03, 0.24), 0.2)


def _truck(art: Sculptor, rng: np.random.Generator, size: Size) -> None:
    """A cab in front of its load."""
    paint, h = _pick(rng, _PAINTS), size[2]
    x, y = _chassis(art, size, 0.15, 0.48)
    split = x[1] - 1.9
    body = art.box((x[0], split - 0.15), y, (0.45, h), paint, VEHICLE)
    cab = art.box((split, x[1]), (y[0] * 0.95, y[1] * 0.95), (0.3, 0.82 * h), _pick(rng, _PAINTS), VEHICLE)
    art.panes(body[1:2], [(0.06, 0.485), (0.515, 0.94)], [(0.28, 0.95)], dimmed(paint, 0.8))
    art.panes(cab[:1], [(0.08, 0.92)], [(0.5, 0.9)], _GLASS)
    art.panes(cab[2:4], [(0.3, 0.8)], [(0.52, 0.88)], _GLASS)
    _lamps(art, body[1], body[0], (0.03, 0.24), 0.2)


def _bicycle(art: Sculptor, rng: np.random.Generator, size: Size) -> None:
    w, length, h = size
    art.flat((-length / 2, length / 2), (-w / 2, w / 2), 0.01, KEEP)
    for x in (-0.32 * length, 0.32 * length):
        art.box((x - 0.3, x + 0.3), (-0.05, 0.05), (0.0, 0.62), (30, 30, 32), VEHICLE)
    art.box((-0.25 * length, 0.3 * length), (-0.06, 0.06), (0.5, 0.75), _pick(rng, _PAINTS), VEHICLE)
    art.box((-0.2, 0.15), (-w / 2, w / 2), (0.75, 1.42), _pick(rng, _CLOTHES), VEHICLE)
    art.box((-0.02, 0.22), (-0.12, 0.12), (1.42, h), _pick(rng, _SKIN), VEHICLE)


def _pedestrian(art: Sculptor, rng: np.random.Generator, size: Size) -> None:
    w, length, h = size
    coat, trousers = _pick(rng, _CLOTHES), _pick(rng, ((45, 50, 80), (60, 50, 45), (30, 30, 34), (120, 110, 90)))
    art.flat((-length / 2, length / 2), (-w / 2, w / 2), 0.01, KEEP)
    for bit, lead in ((STRIDE_A, 1.0), (STRIDE_B, -1.0)):
        for y in ((-0.2 * w / 0.65, -0.02), (0.02, 0.2 * w / 0.65)):
            reach = 0.24 * lead * (1.0 if y[0] > 0 else -1.0) * length / 0.65
            low, high = (reach - 0.11, reach + 0.11, *y), (-0.12, 0.12, *y)
            art.frustum(low, high, (0.0, 0.47 * h), (trousers, HUMAN), bit)
    art.frustum((-0.2, 0.2, -0.42 * w, 0.42 * w), (-0.18, 0.18, -w / 2, w / 2), (0.45 * h, 0.83 * h), (coat, HUMAN))
    art.box((-0.13, 0.13), (-0.13, 0.13), (0.83 * h, 0.97 * h), _pick(rng, _SKIN), HUMAN)
    art.box((-0.14, 0.12), (-0.14, 0.14), (0.94 * h, h), (50, 35, 25), HUMAN)


def _cone(art: Sculptor, rng: np.random.Generator, size: Size) -> None:
    w, length, h = size
    art.box((-length / 2, length / 2), (-w / 2, w / 2), (0.0, 0.07), (40, 40, 40), BARRIER)
    for low, high, color in ((0.07, 0.4, (255, 95, 15)), (0.4, 0.66, (245, 245, 245)), (0.66, 1.0, (255, 95, 15))):
        a, b = 0.4 * (1 - low) * w + 0.02, 0.4 * (1 - high) * w + 0.02
        art.frustum((-a, a, -a, a), (-b, b, -b, b), (low * h, high * h), (color, BARRIER))


def _barrier(art: Sculptor, rng: np.random.Generator, size: Size) -> None:
    w, length, h = size
    low, high = (-length / 2, length / 2, -w / 2, w / 2), (-length / 4, length / 4, -w / 2, w / 2)
    faces = art.frustum(low, high, (0.0, h), ((235, 232, 225), BARRIER))
    art.panes(faces[:2], [(a, a + 0.13) for a in (0.05, 0.31, 0.57, 0.83)], [(0.45, 0.9)], (215, 40, 30))


_VEHICLES = dict(car=_car, truck=_truck, rigid=_bus, bicycle=_bicycle)  # by the last word of the category
_ACTORS = _VEHICLES | dict(adult=_pedestrian, child=_pedestrian, trafficcone=_cone, barrier=_barrier)


def light_mesh(height_m: float, arm_m: float) -> Mesh:
    """A traffic light that faces -x, its lowest edge at `height_m`, on an arm of `arm_m` to its right if not 0."""
    art = Sculptor()
    top = height_m + 2.3
    art.box((0.2, 0.4), (-arm_m - 0.1, -arm_m + 0.1), (0.0, top - 0.5), (70, 74, 78), BACKGROUND)
    if arm_m:
        art.box((0.2, 0.36), (-arm_m, 0.3), (top - 0.7, top - 0.5), (70, 74, 78), BACKGROUND)
    face = art.box((-0.2, 0.2), (-0.48, 0.48), (height_m, top), (24, 26, 28), SIGN)[1]
    for index, (bit, bright, dull) in enumerate(_LAMPS):
        v = 5 / 6 - index / 3
        # Two quads that together make an eight-cornered disc.
        square = inset(face, [(0.16, 0.84)], [(v - 0.142, v + 0.142)])[0]
        middle, corners = square.mean(0), (square + np.roll(square, -1, axis=0)) / 2
        for color, when in ((bright, bit), (dull, bit << UNLIT)):
            for disc in (square * 0.8 + middle * 0.2, middle + (corners - middle) * 1.15):
                art.add(disc, color, KEEP, when, glows=color is bright)
    return art.finish()


def _house(art: Sculptor, rng: np.random.Generator) -> None:
    """A house whose front is at x = 0 and faces -x; its windows are lit in two colours."""
    width_m, depth_m, height = float(rng.uniform(6, 12)), float(rng.uniform(6, 9)), float(rng.uniform(4.5, 16.0))
    faces = art.box((0.0, depth_m), (-width_m / 2, width_m / 2), (0.0, height), _vary(rng, _WALLS), BACKGROUND)
    front = faces[1]
    columns, rows = max(2, int(width_m / 2.4)), max(1, int((height - 3.0) / 2.9))
    share = 3.0 / height
    cells = [(c, r) for r in range(rows) for c in range(columns)]
    lit = rng.uniform(size=len(cells)) < 0.3
    for chosen, color, glows in ((~lit, _vary(rng, _PANES[:2]), False), (lit, _vary(rng, _PANES), True)):
        picked = [cell for cell, take in zip(cells, chosen, strict=True) if take]
        if picked:
            u = [((c + 0.22) / columns, (c + 0.78) / columns) for c, _ in picked]
            v = [(share + (1 - share) * (r + 0.2) / rows, share + (1 - share) * (r + 0.75) / rows) for _, r in picked]
            art.add(inset(front, u, v), color, BACKGROUND, glows=glows)
    v = [(share + (1 - share) * (r + 0.25) / rows, share + (1 - share) * (r + 0.7) / rows) for r in range(rows)]
    for side in faces[2:4]:
        art.add(inset(side, [(0.3, 0.6)] * rows, v), _vary(rng, _PANES[:4]), BACKGROUND)
    shop = [(0.06, 0.52), (0.72, 0.94)]
    art.panes(faces[1:2], shop, [(0.3 / height, 2.2 / height)], _vary(rng, _PANES), BACKGROUND)
    art.panes(faces[1:2], [(0.04, 0.96)], [(2.35 / height, 2.95 / height)], _vary(rng, _PANES), BACKGROUND)


def _tree(art: Sculptor, rng: np.random.Generator) -> None:
    """A trunk and a crown of tapering prisms."""
    height, radius = float(rng.uniform(4.0, 8.5)), float(rng.uniform(1.1, 2.0))
    leaf = _vary(rng, _LEAVES)
    art.box((-0.14, 0.14), (-0.14, 0.14), (0.0, 0.4 * height), (85, 65, 45), BACKGROUND)
    tiers = ((0.28, 0.5, 0.6, 1.0, 0.82), (0.5, 0.78, 1.0, 0.85, 1.0), (0.78, 1.0, 0.8, 0.2, 1.15))
    for low, high, wide, narrow, gain in tiers:
        a, b = radius * wide, radius * narrow
        art.frustum((-a, a, -a, a), (-b, b, -b, b), (low * height, high * height), (dimmed(leaf, gain), BACKGROUND))


def _poster(art: Sculptor, rng: np.random.Generator) -> None:
    """A hoarding that faces -x, of coloured blocks; red and green ones among them."""
    half, low, high = float(rng.uniform(1.0, 2.4)), 1.2, float(rng.uniform(2.8, 4.4))
    for y in (-0.7 * half, 0.7 * half):
        art.box((0.05, 0.2), (y - 0.08, y + 0.08), (0.0, low), (70, 70, 72), BACKGROUND)
    face = art.box((0.0, 0.2), (-half, half), (low, high), _vary(rng, _PANES), BACKGROUND)[1]
    for _ in range(4):
        u, v = sorted(rng.uniform(0.04, 0.96, 2)), sorted(rng.uniform(0.06, 0.94, 2))
        art.panes(face[None], [(u[0], u[1])], [(v[0], v[1])], _vary(rng, _PANES), BACKGROUND)


def _lamp_post(art: Sculptor, rng: np.random.Generator) -> None:
    """A street lamp with an arm to its left."""
    grey = float(rng.uniform(70, 120))
    art.box((-0.07, 0.07), (-0.07, 0.07), (0.0, 6.5), (grey, grey, grey), BACKGROUND)
    art.box((-0.05, 0.05), (-0.05, 1.8), (6.4, 6.52), (grey, grey, grey), BACKGROUND)
    art.box((-0.12, 0.12), (1.3, 2.0), (6.3, 6.42), (235, 235, 210), BACKGROUND, glows=True)


def _hedge(art: Sculptor, rng: np.random.Generator) -> None:
    """A low hedge or wall along the pavement, front at x = 0."""
    length, height = float(rng.uniform(3, 8)), float(rng.uniform(0.7, 1.5))
    colors = _LEAVES if rng.uniform() < 0.6 else _WALLS
    face = art.box((0.0, 0.8), (-length / 2, length / 2), (0.0, height), _vary(rng, colors), BACKGROUND)[1]
    for left in rng.uniform(0.02, 0.9, 4).tolist():
        low = float(rng.uniform(0.05, 0.5))
        art.panes(face[None], [(left, left + 0.08)], [(low, low + 0.4)], _vary(rng, colors), BACKGROUND)


def _sign(art: Sculptor, rng: np.random.Generator) -> None:
    """A roadside sign that faces -x."""
    art.box((0.0, 0.08), (-0.04, 0.04), (0.0, 2.2), (120, 122, 124), BACKGROUND)
    rim, inner = _BOARDS[int(rng.integers(len(_BOARDS)))]
    half, z = float(rng.uniform(0.38, 0.55)), 2.4
    faces = art.box((-0.05, 0.0), (-half, half), (z - half, z + half), rim, SIGN)
    art.panes(faces[1:2], [(0.2, 0.8)], [(0.2, 0.8)], inner)
    art.panes(faces[1:2], [(0.3, 0.7)], [(0.42, 0.58)], dimmed(rim, 0.4))


_SCENERY = dict(house=_house, tree=_tree, poster=_poster, lamp=_lamp_post, hedge=_hedge, sign=_sign)


@cache
def scenery_mesh(kind: str, number: int) -> Mesh:
    """A look of a kind of scenery: made once, placed in many scenes."""
    art = Sculptor()
    _SCENERY[kind](art, np.random.default_rng((list(_SCENERY).index(kind), number)))
    return art.finish()
