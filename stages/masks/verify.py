"""Check a finished mask set: every hash, every image of the data set, outliers; and draw a contact sheet.

    python -m stages.masks.verify                      # data/masks against scenes.root; draws runs/contact_sheet.png
    python -m stages.masks.verify --sheet none         # without the images
    python -m stages.masks.verify FOLDER --alone       # without the data set: its cameras against each other

Ends with 0 when the set is whole (outliers are only named), 3 when a byte is other than written or a scene, camera or
mask lacks, 2 when params.yaml is wrong.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from stages.core import io
from stages.core.errors import DataError, InputError
from stages.core.params import Params, read_params
from stages.masks import agreement, mask_set
from stages.masks.job import split_of_scene
from stages.masks.mask_set import MaskSet, Row
from stages.scenes.base import CAMERAS
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes, open_scenes

SHEET = Path("runs/contact_sheet.png")
TILE_PX = (320, 180)
PER_CAMERA = 3
NAMED = 20  # outliers
COLORS = np.array(mask_set.PALETTE, np.uint8).reshape(-1, 3)
PLAIN = np.array([0, 200, 80], np.uint8)  # where no class is known
OPACITY = 0.55
LABEL_PX = 18
FAR = 6.0  # deviations from a camera's median, both robust and of log-odds, from which a share is named
NEAREST = 1e-3  # share: log-odds have no end
FINEST = 1e-2  # log-odds: a deviation of a camera that always sees the same


def check(folder: Path) -> MaskSet:
    """The set, every byte of its shards checked. Raises DataError naming shards and tokens that are not as written."""
    masks = MaskSet(folder)
    rows = masks.rows
    if len({row["token"] for row in rows}) < len(rows):
        raise DataError(expected=f"each image once in {folder}", got="some twice", fix=f"run `{mask_set.MADE_BY}`")
    faults = [fault for name, held in groupby(rows, lambda row: row["shard"]) for fault in _faults(folder, name, held)]
    if faults:
        raise _faulty(f"{folder} as it was written", faults)
    return masks


def complete(masks: MaskSet, params: Params | None) -> None:
    """Raises DataError naming absent masks: against the data set of the params, else between cameras."""
    if params is None:
        faults = list(between_cameras(masks.rows))
    else:
        source = params.scenes
        scenes = open_scenes(source.root, source.version)
        faults = list(against(scenes, split_of_scene(scenes, (source.train_split, source.eval_split)), masks.rows))
    if faults:
        raise _faulty("a mask of every image of the splits", faults)


def _faulty(expected: str, faults: Sequence[str]) -> DataError:
    got = f"{len(faults)} faults: {'; '.join(faults[:5])}{'; ...' * (len(faults) > 5)}"
    return DataError(expected=expected, got=got, fix=f"run `{mask_set.MADE_BY}`")


def against(scenes: Scenes, split_of: Mapping[str, str], rows: Sequence[Row]) -> Iterator[str]:
    """A line for each scene, key frame or image of the splits that has no mask, is named otherwise, or is not theirs.

    A camera that a key frame lacks in the data set, too, is no fault.
    """
    left = by_sample(rows)
    for scene, split in split_of.items():
        tokens = scenes.tokens_of_scene(scene)
        if not any(token in left for token in tokens):
            yield f"no mask of {scene} ({split}, {len(tokens)} key frames)"
            continue
        for token in tokens:
            held = left.pop(token, {})
            if not held.keys() >= set(CAMERAS):
                known = scenes.frame(token).cameras
                yield from _without([name for name in known if name not in held], token, scene)
            odd = [row for row in held.values() if (row["scene"], row["split"]) != (scene, split)]
            yield from (f"{row['token']} as of {row['scene']} ({row['split']}): {scene} ({split})" for row in odd)
    yield from (f"{len(held)} masks of sample {sample}, of no scene of the splits" for sample, held in left.items())


def between_cameras(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each key frame without a camera that others of the set have."""
    samples = by_sample(rows)
    cameras = [name for name in CAMERAS if any(name in held for held in samples.values())]
    for sample, held in samples.items():
        scene = next(iter(held.values()))["scene"]
        yield from _without([name for name in cameras if name not in held], sample, scene)


def by_sample(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Return the rows of each key frame by camera."""
    samples: dict[str, dict[str, Row]] = {}
    for row in rows:
        samples.setdefault(row["sample"], {})[row["camera"]] = row
    return samples


def _without(cameras: Sequence[str], sample: str, scene: str) -> Iterator[str]:
    if cameras:
        yield f"no mask of {', '.join(cameras)} in sample {sample} of {scene}"


def _faults(folder: Path, name: str, rows: Iterator[Row]) -> Iterator[str]:
    data = (folder / name).read_bytes()
    for row in rows:
        for place in filter(None, (row, mask_set.class_map_place(row))):
            member = data[place["offset"] : place["offset"] + place["size"]]
            if hashlib.sha256(member).hexdigest() != place["sha256"]:
                yield f"{'mask' if place is row else 'class map'} {row['token']} in {name}"
    expected = io.read_json(folder / io.MANIFEST, mask_set.MADE_BY)["files"].get(name, {}).get("sha256")
    if hashlib.sha256(data).hexdigest() != expected:
        yield f"{name} as a whole"


def outliers(rows: Sequence[Row]) -> list[dict[Any, Any]]:
    """Return rows with an empty or full mask, or a share far from the median of their camera; the farthest first.

    In log-odds: a camera that mostly sees a little road has shares that reach far up and not down (in plain shares
    58 right masks of CAM_BACK_RIGHT of the drawn world, each of a car close by, were far).
    """
    table = pd.DataFrame(rows)
    share = table["foreground_share"]

    def distance(odds: pd.Series) -> pd.Series:
        away = (odds - odds.median()).abs()
        return away / max(1.4826 * away.median(), FINEST)

    inner = share.clip(NEAREST, 1 - NEAREST)
    far = np.log(inner / (1 - inner)).groupby(table["camera"]).transform(distance)
    odd = table.assign(far=-far)[(far > FAR) | share.isin([0, 1])]
    return odd.sort_values(["far", "token"]).to_dict("records")


def overlay(
    image: UInt8[np.ndarray, "H W 3"], foreground: Bool[np.ndarray, "H2 W2"], classes: UInt8[np.ndarray, "H2 W2"] | None
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the image with its foreground in the colours of the classes, or in one; their sizes may differ."""
    labels = foreground.astype(np.uint8) if classes is None else classes
    labels = cv2.resize(labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    colors = np.where(labels[..., None] > 0, PLAIN, 0) if classes is None else COLORS[labels]
    return np.where(labels[..., None] > 0, image * (1 - OPACITY) + colors * OPACITY, image).astype(np.uint8)


def draw(masks: MaskSet, params: Params, path: Path) -> None:
    """Draw the contact sheet as PNG: a row per camera, of images evenly spaced and their overlays."""
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    lines = []
    for camera, table in pd.DataFrame(masks.rows).groupby("camera", sort=False):
        line = np.full((LABEL_PX, 2 * PER_CAMERA * TILE_PX[0], 3), 255, np.uint8)
        cv2.putText(line, str(camera), (4, LABEL_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        tiles = []
        for place in np.linspace(0, len(table) - 1, PER_CAMERA).round().astype(int):
            row = table.iloc[place]
            image = read_image(scenes.frame(row["sample"]).cameras[row["camera"]].path, TILE_PX)
            tiles += [image, overlay(image, masks.mask(row["token"]), masks.classes(row["token"]))]
        lines += [line, np.hstack(tiles)]
    io.write_bytes(path, cv2.imencode(".png", np.vstack(lines)[..., ::-1])[1].tobytes())


def main(arguments: argparse.Namespace) -> None:
    """Check, print the counts, draw."""
    params = None if arguments.alone else read_params()
    masks = check(arguments.folder)
    complete(masks, params)
    for of in agreement.share_table(masks.rows):
        print(f"{of['split']:12} {of['camera']:16} {of['images']:7} images, foreground {of['foreground_share']:.3f}")
    odd = outliers(masks.rows)
    whole = "no camera lacks" if params is None else "none lacks"
    print(f"{len(masks)} masks, every hash as written, {whole}; {len(odd)} with an odd share of foreground")
    for named in odd[:NAMED]:
        print(f"  {named['token']} {named['scene']} {named['camera']} {named['foreground_share']:.3f}")
    if arguments.sheet != "none" and params is not None:
        draw(masks, params, Path(arguments.sheet))
        print(f"contact sheet: {arguments.sheet}")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.masks.verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=mask_set.FOLDER)
    parser.add_argument("--sheet", default=str(SHEET), help="PNG to write, or none")
    parser.add_argument("--alone", action="store_true", help="do not open the data set; nothing is drawn then")
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        main(parse())
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
