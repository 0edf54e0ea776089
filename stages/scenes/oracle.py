"""The truth that lies beside a drawn world, never read by training: a class map per image, an event per key frame."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from stages.core import io
from stages.core.errors import DataError
from stages.scenes import layout
from stages.scenes.base import Frame

EVENTS_FILE = "events.json"


def read_class_map(root: Path, frame: Frame, channel: str) -> UInt8[np.ndarray, "H W"]:
    """0 background, i the class `stages.masks.base.CLASSES[i - 1]`. Raises DataError when it is missing or damaged."""
    from PIL import Image

    path = root / frame.scene / f"{frame.cameras[channel].token}.png"
    try:
        return np.array(Image.open(path), np.uint8)
    except OSError as error:
        raise DataError(expected=f"the true class map {path}", got=str(error), fix=f"run `{layout.MADE_BY}`") from error


def read_events(root: Path) -> dict[str, str]:
    """Sample token of each key frame: what shapes the next three seconds there the most, one of scenario.EVENTS.

    Raises DataError when the file is missing or damaged.
    """
    path = root / EVENTS_FILE
    events = io.read_json(path, layout.MADE_BY)
    if not isinstance(events, dict) or not all(isinstance(name, str) for name in events.values()):
        expected = f"an object of sample tokens and event names in {path}"
        raise DataError(expected=expected, got=f"{events!r:.80}", fix=f"run `{layout.MADE_BY}`")
    return events


def fitted(classes: UInt8[np.ndarray, "H W"], size_px: tuple[int, int], fit: str) -> UInt8[np.ndarray, "H2 W2"]:
    """The map, at its own scale, with the margins that `images.resize` gives an image of `size_px` = (W, H).

    `stretch` leaves it as it is; `pad` adds background at the right and below.
    """
    if fit != "pad":
        return classes
    height, width = classes.shape
    scale = min(size_px[0] / width, size_px[1] / height)
    below, right = round(size_px[1] / scale) - height, round(size_px[0] / scale) - width
    return np.pad(classes, ((0, max(0, below)), (0, max(0, right))))
