"""Faults of a nuScenes root that was copied badly: a sample of it, the same each time, in seconds."""

import json
import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from stages.core.errors import DataError
from stages.scenes.layout import check_root

NAMED, DECODED = 200, 20  # images that are looked for, and decoded
WINDOW = 1 << 16  # bytes read around a random place of sample_data.json, which holds 1.2 GB of the full set
IMAGE = re.compile(rb'"filename":\s*"([^"]+\.(?:jpg|png))"')


def faults(root: Path, version: str) -> Iterator[str]:
    """Yield what is missing or damaged: tables, images they name, map expansions, CAN bus."""
    try:
        check_root(root, version)
    except DataError as error:
        yield f"{error.expected}: {error.got}"
        return
    yield from _images(root, version)
    expansions = sorted((root / "maps/expansion").glob("*.json"))
    if not expansions:
        yield f"{root / 'maps/expansion'} has no map (nuScenes map expansion 1.3)"
    for path in expansions:
        try:
            json.loads(path.read_bytes())
        except ValueError:
            yield f"{path} is no JSON ({path.stat().st_size} bytes)"
    if not any((root / "can_bus").glob("*_pose.json")):
        yield f"{root / 'can_bus'} has no pose messages (nuScenes CAN bus expansion)"


def _images(root: Path, version: str) -> Iterator[str]:
    """Images named at random places of sample_data.json that are outside, absent, or cannot be decoded."""
    draw = random.Random(0)
    names = sorted(_named(root / version / "sample_data.json", draw))
    if not names:
        yield f"{root / version / 'sample_data.json'} names no image"
        return
    names = draw.sample(names, min(NAMED, len(names)))
    outside = [name for name in names if not (root / name).resolve().is_relative_to(root.resolve())]
    absent = [name for name in names if name not in outside and not (root / name).is_file()]
    if outside:
        yield f"{outside[0]} in sample_data.json leads out of {root}"
    if absent:
        yield f"{len(absent)} of {len(names)} images that sample_data.json names are absent, such as {root / absent[0]}"
    present = [name for name in names if name not in outside and name not in absent]
    for name in draw.sample(present, min(DECODED, len(present))):
        if fault := _fault_of_image(root / name):
            yield f"{root / name} cannot be decoded: {fault}"


def _named(path: Path, draw: random.Random) -> set[str]:
    """Names of key frames' images at some random places."""
    size, names = path.stat().st_size, set[str]()
    with open(path, "rb") as file:
        for _ in range(32):
            file.seek(draw.randrange(max(1, size - WINDOW)))
            found = (name.decode(errors="replace") for name in IMAGE.findall(file.read(WINDOW)))
            names |= {name for name in found if not name.startswith("sweeps/")}
    return names


def _fault_of_image(path: Path) -> str:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["JPEG", "PNG"]) as image:
                image.load()
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return str(error) or type(error).__name__
    return ""
