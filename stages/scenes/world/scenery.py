"""What stands beside the road and means nothing to the ego: houses, trees, posters, lamp posts, signs."""

from functools import lru_cache

import numpy as np

from stages.scenes.world.mesh import BACKGROUND, KEEP, SIGN, Color, Mesh, Sculptor, dimmed, inset

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


def _vary(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    base = colors[int(rng.integers(len(colors)))]
    return dimmed(base, float(rng.uniform(0.8, 1.15)))


def house_mesh(rng: np.random.Generator) -> Mesh:
    """A house whose front is at x = 0 and faces -x; its windows are lit in two colours."""
    art = Sculptor()
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
    for face in faces[2:4]:
        v_side = [
            (share + (1 - share) * (r + 0.25) / rows, share + (1 - share) * (r + 0.7) / rows) for r in range(rows)
        ]
        art.add(inset(face, [(0.3, 0.6)] * rows, v_side), _vary(rng, _PANES[:4]), BACKGROUND)
    shop = _vary(rng, _PANES)
    art.add(inset(front, [(0.06, 0.52), (0.72, 0.94)], [(0.3 / height, 2.2 / height)] * 2), shop, BACKGROUND)
    art.add(inset(front, [(0.04, 0.96)], [(2.35 / height, 2.95 / height)]), _vary(rng, _PANES), BACKGROUND)
    return art.finish()


def tree_mesh(rng: np.random.Generator) -> Mesh:
    """A trunk and a crown of two tapering prisms, turned against each other."""
    art = Sculptor()
    height, radius = float(rng.uniform(4.0, 8.5)), float(rng.uniform(1.1, 2.0))
    leaf = _vary(rng, _LEAVES)
    art.box((-0.14, 0.14), (-0.14, 0.14), (0.0, 0.4 * height), (85, 65, 45), BACKGROUND)
    for low, high, wide, narrow, gain in (
        (0.28, 0.5, 0.6, 1.0, 0.82),
        (0.5, 0.78, 1.0, 0.85, 1.0),
        (0.78, 1.0, 0.8, 0.2, 1.15),
    ):
        a, b = radius * wide, radius * narrow
        art.frustum((-a, a, -a, a), (-b, b, -b, b), (low * height, high * height), (dimmed(leaf, gain), BACKGROUND))
    return art.finish()


def poster_mesh(rng: np.random.Generator) -> Mesh:
    """A hoarding that faces -x, of coloured blocks; red and green ones among them."""
    art = Sculptor()
    half, low, high = float(rng.uniform(1.0, 2.4)), 1.2, float(rng.uniform(2.8, 4.4))
    for y in (-0.7 * half, 0.7 * half):
        art.box((0.05, 0.2), (y - 0.08, y + 0.08), (0.0, low), (70, 70, 72), BACKGROUND)
    face = art.box((0.0, 0.2), (-half, half), (low, high), _vary(rng, _PANES), BACKGROUND)[1]
    for _ in range(4):
        u, v = sorted(rng.uniform(0.04, 0.96, 2)), sorted(rng.uniform(0.06, 0.94, 2))
        art.add(inset(face, [(u[0], u[1])], [(v[0], v[1])]), _vary(rng, _PANES), BACKGROUND)
    return art.finish()


def lamp_post_mesh(rng: np.random.Generator) -> Mesh:
    """A street lamp with an arm to its left."""
    art = Sculptor()
    grey = float(rng.uniform(70, 120))
    art.box((-0.07, 0.07), (-0.07, 0.07), (0.0, 6.5), (grey, grey, grey), BACKGROUND)
    art.box((-0.05, 0.05), (-0.05, 1.8), (6.4, 6.52), (grey, grey, grey), BACKGROUND)
    art.box((-0.12, 0.12), (1.3, 2.0), (6.3, 6.42), (235, 235, 210), BACKGROUND, glows=True)
    return art.finish()


def hedge_mesh(rng: np.random.Generator) -> Mesh:
    """A low hedge or wall along the pavement, front at x = 0."""
    art = Sculptor()
    length, height = float(rng.uniform(3, 8)), float(rng.uniform(0.7, 1.5))
    colors = _LEAVES if rng.uniform() < 0.6 else _WALLS
    face = art.box((0.0, 0.8), (-length / 2, length / 2), (0.0, height), _vary(rng, colors), BACKGROUND)[1]
    u: list[tuple[float, float]] = [(float(a), float(a) + 0.08) for a in rng.uniform(0.02, 0.9, 4)]
    for span in u:
        low = float(rng.uniform(0.05, 0.5))
        art.add(inset(face, [span], [(low, low + 0.4)]), _vary(rng, colors), BACKGROUND)
    return art.finish()


def sign_mesh(rng: np.random.Generator) -> Mesh:
    """A roadside sign that faces -x."""
    art = Sculptor()
    art.box((0.0, 0.08), (-0.04, 0.04), (0.0, 2.2), (120, 122, 124), BACKGROUND)
    rim, inner = _BOARDS[int(rng.integers(len(_BOARDS)))]
    half, z = float(rng.uniform(0.38, 0.55)), 2.4
    face = art.box((-0.05, 0.0), (-half, half), (z - half, z + half), rim, SIGN)[1]
    art.add(inset(face, [(0.2, 0.8)], [(0.2, 0.8)]), inner, KEEP)
    art.add(inset(face, [(0.3, 0.7)], [(0.42, 0.58)]), dimmed(rim, 0.4), KEEP)
    return art.finish()


_MAKERS = {
    "house": house_mesh,
    "tree": tree_mesh,
    "poster": poster_mesh,
    "lamp": lamp_post_mesh,
    "hedge": hedge_mesh,
    "sign": sign_mesh,
}
VARIANTS = 64


@lru_cache(maxsize=len(_MAKERS) * VARIANTS)
def variant(kind: str, number: int) -> Mesh:
    """One of VARIANTS looks of a kind of scenery: made once, placed in many scenes."""
    return _MAKERS[kind](np.random.default_rng((list(_MAKERS).index(kind), number)))
