"""Rings and boxes of 3-D points in a camera: clipped to what it sees, projected, filled. Pure numpy, and OpenCV's fill.

A set of rings is one array of points (P, 3) and, beside it, the ring number of each point (P,), ascending.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

SUBPIXEL_BITS = 4  # cv2 fills polygons given in 1/16 pixel


def box_corners(
    centers_m: Float[np.ndarray, "M 3"], sizes_wlh_m: Float[np.ndarray, "M 3"], turns: Float[np.ndarray, "M 3 3"]
) -> Float[np.ndarray, "M 8 3"]:
    """Corners of boxes; corner i is at the front, left, top where bit 2, 1, 0 of i is set (front: along length)."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    local_m = signs[None] * sizes_wlh_m[:, None, [1, 0, 2]]
    return centers_m[:, None] + local_m @ turns.transpose(0, 2, 1)


FACES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])


def view_planes(
    intrinsic: Float[np.ndarray, "3 3"], size_px: tuple[int, int], near_m: float
) -> Float[np.ndarray, "5 4"]:
    """Planes (n, d), n . p + d >= 0 inside: near, left, right, top, bottom of the image and as much again around it.

    The margin keeps the cut edges out of the image; without the side planes, points beside the camera project to
    coordinates that overflow OpenCV's fixed point.
    """
    W, H = size_px
    depth = np.array([0.0, 0.0, 1.0])
    sides = [
        intrinsic[0] + W * depth,
        2 * W * depth - intrinsic[0],
        intrinsic[1] + H * depth,
        2 * H * depth - intrinsic[1],
    ]
    normals = np.array([depth, *sides])
    return np.hstack([normals, np.array([[-near_m], [0], [0], [0], [0]])])


def clip(
    points: Float[np.ndarray, "P 3"], ring: Int[np.ndarray, " P"], planes: Float[np.ndarray, "F 4"]
) -> tuple[Float[np.ndarray, "Q 3"], Int[np.ndarray, " Q"]]:
    """All rings cut by all planes at once (Sutherland-Hodgman, a plane at a time).

    A concave ring stays one ring: its parts hang together by edges along the plane, which an even-odd fill cancels.
    """
    for plane in planes:
        if not len(points):
            break
        height = points @ plane[:3] + plane[3]
        after = _next_in_ring(ring)
        inside = height >= 0
        crosses = inside != inside[after]
        share = np.where(crosses, height / np.where(crosses, height - height[after], 1), 0)
        cuts = points + share[:, None] * (points[after] - points)
        pairs = np.stack([points, cuts], axis=1).reshape(-1, 3)
        kept = np.stack([inside, crosses], axis=1).ravel()
        points, ring = pairs[kept], ring.repeat(2)[kept]
    return points, ring


def _next_in_ring(ring: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    """Index of the following point of the same ring; the last one is followed by the first."""
    last = np.append(ring[1:] != ring[:-1], True)
    after = np.arange(1, len(ring) + 1)
    after[last] = np.append(0, np.flatnonzero(last[:-1]) + 1)
    return after


def project(points: Float[np.ndarray, "P 3"], intrinsic: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "P 2"]:
    """Pixel coordinates of points in front of the camera; the centre of the first pixel is (0, 0)."""
    homogeneous = points @ intrinsic.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def fill_even_odd(canvas: Shaped[np.ndarray, "H W"], rings_px: list[Float[np.ndarray, "_ 2"]], value: int) -> None:
    """Paint one shape, holes among its rings, onto `canvas`, which is the caller's own to be painted on."""
    rings = [_fixed_point(ring) for ring in rings_px if len(ring) >= 3]
    if rings:
        cv2.fillPoly(canvas, rings, (value,), lineType=cv2.LINE_8, shift=SUBPIXEL_BITS)


def silhouette(points_px: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "Q 2"]:
    """The convex hull: what a box hides, wherever it was cut."""
    return cv2.convexHull(points_px.astype(np.float32))[:, 0].astype(np.float64)


def convex_mask(ring_px: Float[np.ndarray, "Q 2"], window: tuple[slice, slice]) -> Bool[np.ndarray, "h w"]:
    """Mark each pixel of the window (rows, columns of the image) that lies in a convex ring."""
    rows, columns = window
    canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    if not canvas.size:  # OpenCV refuses it
        return canvas.astype(bool)
    ring = _fixed_point(ring_px - [columns.start, rows.start])
    cv2.fillConvexPoly(canvas, ring, (1,), lineType=cv2.LINE_8, shift=SUBPIXEL_BITS)
    return canvas.astype(bool)


def window_of(ring_px: Float[np.ndarray, "Q 2"], size_px: tuple[int, int]) -> tuple[slice, slice]:
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


def inverse_depth(planes: Float[np.ndarray, "6 3"], window: tuple[slice, slice]) -> Float[np.ndarray, "h w"]:
    """1 / z where the rays of the window's pixels enter a box, in 1/m; infinite when the camera is inside it."""
    v, u = (np.arange(part.start, part.stop) for part in window)
    depth = np.full((len(v), len(u)), np.inf)
    for along_u, along_v, constant in planes[np.isfinite(planes[:, 2])]:
        np.minimum(depth, (along_v * v + constant)[:, None] + along_u * u, out=depth)
    return depth


def _fixed_point(ring_px: Float[np.ndarray, "Q 2"]) -> Int[np.ndarray, "Q 2"]:
    fixed = (ring_px * (1 << SUBPIXEL_BITS)).round(6)  # what lies half-way goes the same way on every CPU
    return np.round(fixed).astype(np.int32)
