"""Paths on the road as the front camera sees them."""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from stages.report.figures import BLACK, GREY, colour_of
from stages.report.pictures import RECORDED, UNPRUNED
from stages.scenes.base import Camera, Frame

NEAREST_M = 0.5  # what is nearer to the lens, or behind it, is not in the picture
POINTS = 40  # between two waypoints: a line ends where the picture does, not at a waypoint
SHIFT = 4  # cv2 takes sixteenths of a pixel


def on_image(
    points_m: Float[np.ndarray, "P 2"], camera: Camera, frame: Frame
) -> tuple[Float[np.ndarray, "P 2"], Float[np.ndarray, " P"]]:
    """Pixels and depths in metres of points on the road (x forward, y left, z = 0 of the ego frame).

    Pixels of points with a depth of 0 or less mean nothing.
    """
    flat = np.column_stack([points_m, np.zeros(len(points_m)), np.ones(len(points_m))])
    seen_m = (camera.camera_from_global @ frame.global_from_ego @ flat.T)[:3]
    depth_m = seen_m[2]
    pixels = (camera.intrinsic @ seen_m)[:2] / np.where(depth_m > 0, depth_m, np.nan)
    return pixels.T, depth_m


def paths_ahead(
    image: UInt8[np.ndarray, "H W 3"], frame: Frame, plans_m: Mapping[str, Float[np.ndarray, "6 2"]], camera: Camera
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with the recorded path and the plans, in the colours of `pictures.birds_eye`; `image` whole."""
    picture = np.array(image)  # a copy: cv2 draws in place
    looks = colour_of([name for name in plans_m if name != UNPRUNED])
    width = max(2, image.shape[1] // 220)
    for name, path_m in {RECORDED: frame.future_ego_m, **plans_m}.items():
        colour = BLACK if name == RECORDED else looks.get(name, (GREY, ""))[0]
        thick = 2 * width if name == RECORDED else width
        for line in _lines(path_m, camera, frame):
            cv2.polylines(
                picture,
                [line],
                isClosed=False,
                color=(255, 255, 255),
                thickness=thick + 2,
                lineType=cv2.LINE_AA,
                shift=SHIFT,
            )
            cv2.polylines(
                picture, [line], isClosed=False, color=_rgb(colour), thickness=thick, lineType=cv2.LINE_AA, shift=SHIFT
            )
    return picture


def _lines(path_m: Float[np.ndarray, "6 2"], camera: Camera, frame: Frame) -> list[np.ndarray]:
    """The path from the car on, cut where it leaves what the lens sees, as cv2 wants it."""
    whole = np.vstack([np.zeros((1, 2)), np.nan_to_num(path_m)])
    at = np.linspace(0, len(whole) - 1, POINTS * (len(whole) - 1) + 1)
    fine_m = np.column_stack([np.interp(at, np.arange(len(whole)), whole[:, i]) for i in range(2)])
    pixels, depth_m = on_image(fine_m, camera, frame)
    seen = depth_m > NEAREST_M
    pieces = np.split(np.arange(len(at)), np.flatnonzero(np.diff(seen)) + 1)
    fixed = np.round(np.clip(np.nan_to_num(pixels), -1e5, 1e5) * 2**SHIFT).astype(np.int32)
    return [fixed[piece] for piece in pieces if seen[piece[0]] and len(piece) > 1]


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
