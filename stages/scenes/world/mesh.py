"""Objects as flat quadrilaterals, and the arrays in which a whole scene of them is projected at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.scenes.world.roads import Array

# The numbering of stages.masks.base.CLASSES: scenes may not import masks; a test asserts that the two agree.
BACKGROUND, ROAD, VEHICLE, HUMAN, SIGN, BARRIER = range(6)
KEEP = 255  # paints the image only: a shadow, a window, a marking takes the class of what it lies on

Color = tuple[int | float, int | float, int | float]  # RGB, 0..255
_SHADES = (0.92, 0.80, 1.0, 0.72, 1.12)  # of a box's front, back, left, right and top


@dataclass(frozen=True, eq=False)
class Mesh:
    """Q quads. Corners run counter-clockwise seen from outside, so that faces seen from behind can be left out.

    Quads of one group follow one another, share a colour and do not overlap: they are painted by one call.
    """

    quads_m: NDArray[np.float32]  # (Q, 4, 3), in the frame of their object
    colors: NDArray[np.float32]  # (Q, 3)
    labels: NDArray[np.uint8]  # (Q,)
    groups: NDArray[np.int32]  # (Q,)
    when: NDArray[np.uint8]  # (Q,) 0: always; else shown only while its object's state has one of these bits
    objects: NDArray[np.int32]  # (Q,)
    glows: NDArray[np.bool_]  # (Q,) a lamp: it needs no light to be seen


def dimmed(color: Color, gain: float) -> Color:
    """A colour of the same hue, `gain` times as bright."""
    return color[0] * gain, color[1] * gain, color[2] * gain


class Sculptor:
    """Collects the quads of one object, in painting order."""

    def __init__(self) -> None:
        self._quads: list[Array] = []
        self._facts: list[tuple[int, Color, int, int, bool]] = []  # count, colour, label, when, glows

    def add(self, quads: Array, color: Color, label: int, when: int = 0, glows: bool = False) -> None:
        """One group of quads (n, 4, 3) or (4, 3)."""
        quads = quads.reshape(-1, 4, 3)
        self._quads.append(quads)
        self._facts.append((len(quads), color, label, when, glows))

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        color: Color,
        label: int,
        glows: bool = False,
    ) -> Array:
        """An upright box; returns its faces (5, 4, 3): front, back, left, right, top."""
        return self.frustum((*x, *y), (*x, *y), z, (color, label), glows=glows)

    def frustum(
        self,
        low: tuple[float, ...],
        high: tuple[float, ...],
        z: tuple[float, float],
        paint: tuple[Color, int],
        when: int = 0,
        glows: bool = False,
    ) -> Array:
        """A box whose lower and upper rectangle (x0, x1, y0, y1) differ; returns its faces as `box` does."""
        faces = frustum_faces(low, high, z)
        color, label = paint
        for face, shade in zip(faces, _SHADES, strict=True):
            self.add(face, dimmed(color, shade), label, when, glows)
        return faces

    def finish(self) -> Mesh:
        """The object as arrays, all of object 0."""
        counts = np.array([fact[0] for fact in self._facts], int)
        return Mesh(
            quads_m=np.concatenate(self._quads).astype(np.float32),
            colors=np.repeat(np.array([fact[1] for fact in self._facts], np.float32), counts, axis=0),
            labels=np.repeat(np.array([fact[2] for fact in self._facts], np.uint8), counts),
            groups=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            when=np.repeat(np.array([fact[3] for fact in self._facts], np.uint8), counts),
            objects=np.zeros(int(counts.sum()), np.int32),
            glows=np.repeat(np.array([fact[4] for fact in self._facts], bool), counts),
        )


def frustum_faces(low: tuple[float, ...], high: tuple[float, ...], z: tuple[float, float]) -> Array:
    """Five faces (5, 4, 3), each: lower left, lower right, upper right, upper left, seen from outside."""
    (a0, a1, b0, b1), (c0, c1, d0, d1), (z0, z1) = low, high, z
    p = [(a0, b0, z0), (a1, b0, z0), (a1, b1, z0), (a0, b1, z0), (c0, d0, z1), (c1, d0, z1), (c1, d1, z1), (c0, d1, z1)]
    order = [(1, 2, 6, 5), (3, 0, 4, 7), (2, 3, 7, 6), (0, 1, 5, 4), (4, 5, 6, 7)]
    return np.array(p, float)[np.array(order)]


def inset(face: Array, u: Sequence[tuple[float, float]], v: Sequence[tuple[float, float]]) -> Array:
    """Quads (n, 4, 3) on a face (4, 3), each between shares u (left to right) and v (bottom to top)."""
    uv = np.array([[(a, c), (b, c), (b, d), (a, d)] for (a, b), (c, d) in zip(u, v, strict=True)])
    s, t = uv[..., :1], uv[..., 1:]
    return (1 - s) * (1 - t) * face[0] + s * (1 - t) * face[1] + s * t * face[2] + (1 - s) * t * face[3]


def gather(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of many objects: object i is meshes[i]."""
    counts = [len(mesh.labels) for mesh in meshes]
    offsets = np.cumsum([0] + [int(mesh.groups[-1]) + 1 for mesh in meshes])[:-1]
    return Mesh(
        quads_m=np.concatenate([mesh.quads_m for mesh in meshes]),
        colors=np.concatenate([mesh.colors for mesh in meshes]),
        labels=np.concatenate([mesh.labels for mesh in meshes]),
        groups=np.concatenate([mesh.groups + offset for mesh, offset in zip(meshes, offsets, strict=True)]).astype(
            np.int32
        ),
        when=np.concatenate([mesh.when for mesh in meshes]),
        objects=np.repeat(np.arange(len(meshes), dtype=np.int32), counts),
        glows=np.concatenate([mesh.glows for mesh in meshes]),
    )
