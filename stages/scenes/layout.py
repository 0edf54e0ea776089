"""The files of a nuScenes root, and the error that names a part of it that is missing.

Beside a drawn world lies its truth, never read by training: a class map per image, an event per key frame.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from stages.core import io
from stages.core.errors import DataError

TABLES = (
    "category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log", "scene",
    "sample", "sample_data", "sample_annotation", "map",
)  # fmt: skip
MADE_BY = "dvc repro make_world"
EVENTS_FILE = "events.json"
# Messages of the CAN bus, and what is read of each
CAN_KEYS = {"pose": ("utime", "vel", "accel"), "steeranglefeedback": ("utime", "value")}
NO_CAN = {*range(161, 169), *range(170, 177), *range(309, 315)}  # scenes that the devkit reads no messages of


def missing(root: Path, expected: str, got: str) -> DataError:
    """The error for a part of `root` that is not there or not whole."""
    parts = "the tables, samples/, maps/ with map expansion 1.3, can_bus/"
    fix = f"run `{MADE_BY}` for the drawn world, or copy nuScenes ({parts}) into {root}"
    return DataError(expected=expected, got=got, fix=fix)


def check_root(root: Path, version: str) -> None:
    """Raise DataError naming the first table or folder of `root` that is missing, damaged or half-copied.

    A manifest is checked where there is one (the drawn world has it, nuScenes as downloaded has not). Images, CAN bus
    and map expansions are separate downloads: they are checked when a frame or a map is read.
    """
    if not root.is_dir():
        raise missing(root, f"a nuScenes root in {root}", "no such folder")
    if (root / io.MANIFEST).exists():
        io.read_manifest(root, MADE_BY)
    if not (root / version).is_dir():
        versions = sorted(path.parent.name for path in root.glob("*/sample.json"))
        got = f"no such folder (scenes.version may be one of: {', '.join(versions) or 'none found'})"
        raise missing(root, f"the tables in {root / version}", got)
    for name in TABLES:
        if not (root / version / f"{name}.json").is_file():
            raise missing(root, f"13 tables in {root / version}", f"no {name}.json")
    if not (root / "samples").is_dir():
        raise missing(root, f"the images in {root / 'samples'}", "no such folder")
    for record in read_table(root, version, "map"):
        if not (root / record["filename"]).is_file():
            raise missing(root, f"the map image {root / record['filename']} named by map.json", "no such file")


def read_table(root: Path, version: str, name: str) -> list[dict[str, Any]]:
    """The records of one table. Raises DataError when it is no JSON (a copy that stopped half-way)."""
    path = root / version / f"{name}.json"
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise missing(root, f"a whole table in {path}", f"{path.stat().st_size} bytes that are no JSON") from error


def can_messages(root: Path, scene: str, name: str) -> list[dict[str, Any]]:
    """The messages of a scene on its CAN bus, by time; none without. Raises DataError for damaged ones."""
    path = root / "can_bus" / f"{scene}_{name}.json"
    if not path.is_file():
        return []
    try:
        messages = [{key: message[key] for key in CAN_KEYS[name]} for message in json.loads(path.read_bytes())]
        if not messages:
            raise ValueError("no message")
        return messages
    except (KeyError, TypeError, ValueError) as error:
        expected = f"CAN bus messages with {', '.join(CAN_KEYS[name])} in {path}"
        fix = "copy them again from nuScenes' CAN bus expansion"
        raise DataError(expected=expected, got=repr(error), fix=fix) from error


def table_hashes(root: Path, version: str) -> dict[str, str]:
    """SHA-256 by name of all that says what a data set holds: tables, splits, map expansions, manifest."""
    paths = [*(root / version).glob("*.json"), *(root / "maps" / "expansion").glob("*.json"), root / io.MANIFEST]
    return {str(path.relative_to(root)): io.sha256(path) for path in sorted(paths) if path.is_file()}


def read_class_map(path: Path) -> UInt8[np.ndarray, "H W"]:
    """0 background, i the class `stages.masks.base.CLASSES[i - 1]`. Raises DataError when it is missing or damaged."""
    from PIL import Image

    try:
        return np.array(Image.open(path), np.uint8)
    except OSError as error:
        raise DataError(expected=f"the true class map {path}", got=str(error), fix=f"run `{MADE_BY}`") from error


def read_events(root: Path) -> dict[str, str]:
    """By sample token what shapes the next three seconds the most, one of scenario.EVENTS. Raises DataError."""
    return io.read_json(root / EVENTS_FILE, MADE_BY)


def fitted(classes: UInt8[np.ndarray, "H W"], size_px: tuple[int, int], fit: str) -> UInt8[np.ndarray, "H2 W2"]:
    """The map with the margins that `images.resize` gives an image of `size_px` (W, H) under `pad`; else as it is."""
    if fit != "pad":
        return classes
    height, width = classes.shape
    scale = min(size_px[0] / width, size_px[1] / height)
    below, right = round(size_px[1] / scale) - height, round(size_px[0] / scale) - width
    return np.pad(classes, ((0, max(0, below)), (0, max(0, right))))
