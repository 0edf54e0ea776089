"""The paper's Figure 2: images beside themselves with the mask laid over, some of each camera."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from stages.masks.shards import PALETTE

COLORS = np.array(PALETTE, np.uint8).reshape(-1, 3)
PLAIN = np.array([0, 200, 80], np.uint8)  # where no class is known
OPACITY = 0.55
LABEL_PX = 18


def picks(rows: Sequence[Mapping[str, Any]], per_camera: int) -> dict[str, list[Mapping[str, Any]]]:
    """Camera -> rows of the index, evenly spaced from the first to the last of that camera."""
    by_camera: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_camera.setdefault(row["camera"], []).append(row)
    return {
        camera: [found[i] for i in np.unique(np.linspace(0, len(found) - 1, per_camera).round().astype(int))]
        for camera, found in by_camera.items()
    }


def overlay(
    image: UInt8[np.ndarray, "H W 3"], foreground: Bool[np.ndarray, "H2 W2"], classes: UInt8[np.ndarray, "H2 W2"] | None
) -> UInt8[np.ndarray, "H W 3"]:
    """The image with its foreground in the colours of the classes, or in one; the mask may have another size."""
    size_px = (image.shape[1], image.shape[0])
    labels = foreground.astype(np.uint8) if classes is None else classes
    labels = cv2.resize(labels, size_px, interpolation=cv2.INTER_NEAREST)
    colors = np.where(labels[..., None] > 0, PLAIN, 0) if classes is None else COLORS[labels]
    mixed = image * (1 - OPACITY) + colors * OPACITY
    return np.where(labels[..., None] > 0, mixed, image).astype(np.uint8)


def sheet(
    rows: Mapping[str, Sequence[tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]]],
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """A row per camera with its name above it: pairs of image and overlay, all of one size."""
    height, width = next(iter(rows.values()))[0][0].shape[:2]
    columns = 2 * max(len(pairs) for pairs in rows.values())
    page = np.full((len(rows) * (height + LABEL_PX), columns * width, 3), 255, np.uint8)
    for line, (camera, pairs) in enumerate(rows.items()):
        top = line * (height + LABEL_PX)
        cv2.putText(page, camera, (4, top + LABEL_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        for place, tile in enumerate(tile for pair in pairs for tile in pair):
            page[top + LABEL_PX : top + LABEL_PX + height, place * width : (place + 1) * width] = tile
    return page
