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

from stages.core import io
from stages.core.errors import DataError, InputError
from stages.core.params import Params, read_params
from stages.masks import completeness, contact_sheet, shards, summary
from stages.masks.shard_maker import opened, split_of_scene
from stages.masks.shards import MaskSet, Row
from stages.scenes.images import read_image

SHEET = Path("runs/contact_sheet.png")
TILE_PX = (320, 180)
PER_CAMERA = 3
FAR = 6.0  # deviations from a camera's median, both robust and of log-odds, from which a share is named
NEAREST = 1e-3  # share: log-odds have no end
FINEST = 1e-2  # log-odds: a deviation of a camera that always sees the same


def check(folder: Path) -> MaskSet:
    """The set, every byte of its shards checked. Raises DataError naming shards and tokens that are not as written."""
    masks = MaskSet(folder)
    rows = masks.rows
    if len({row["token"] for row in rows}) < len(rows):
        raise DataError(expected=f"each image once in {folder}", got="some twice", fix=f"run `{shards.MADE_BY}`")
    faults = [fault for name, held in groupby(rows, lambda row: row["shard"]) for fault in _faults(folder, name, held)]
    if faults:
        came = f"{len(faults)} faults: {'; '.join(faults[:5])}{'; ...' * (len(faults) > 5)}"
        raise DataError(expected=f"{folder} as it was written", got=came, fix=f"run `{shards.MADE_BY}`")
    return masks


def complete(masks: MaskSet, params: Params | None) -> None:
    """Raises DataError naming what lacks: against the data set of the params, else between cameras."""
    if params is None:
        faults = list(completeness.between_cameras(masks.rows))
    else:
        source = params.scenes
        split_of = split_of_scene(source.root, source.version, (source.train_split, source.eval_split))
        faults = list(completeness.against(opened(source.root, source.version), split_of, masks.rows))
    if faults:
        came = f"{len(faults)} faults: {'; '.join(faults[:5])}{'; ...' * (len(faults) > 5)}"
        raise DataError(expected="a mask of every image of the splits", got=came, fix=f"run `{shards.MADE_BY}`")


def _faults(folder: Path, name: str, rows: Iterator[Row]) -> Iterator[str]:
    data = (folder / name).read_bytes()
    for row in rows:
        for place in filter(None, (row, shards.class_map_place(row))):
            member = data[place["offset"] : place["offset"] + place["size"]]
            if hashlib.sha256(member).hexdigest() != place["sha256"]:
                yield f"{'mask' if place is row else 'class map'} {row['token']} in {name}"
    wanted = io.read_json(folder / io.MANIFEST, shards.MADE_BY)["files"].get(name, {}).get("sha256")
    if hashlib.sha256(data).hexdigest() != wanted:
        yield f"{name} as a whole"


def outliers(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows with an empty or full mask, or with a share far from the median of their camera; the farthest first.

    In log-odds: a camera that mostly sees a little road has shares that reach far up and not down (in plain shares
    58 right masks of CAM_BACK_RIGHT of the drawn world, each of a car close by, were far).
    """
    found: list[tuple[float, Mapping[str, Any]]] = []
    for camera in sorted({row["camera"] for row in rows}):
        held = [row for row in rows if row["camera"] == camera]
        shares = np.array([row["foreground_share"] for row in held])
        inner = shares.clip(NEAREST, 1 - NEAREST)
        odds = np.log(inner / (1 - inner))
        away = np.abs(odds - np.median(odds))
        far = away / max(1.4826 * float(np.median(away)), FINEST)
        found += [(float(far[i]), held[i]) for i in np.flatnonzero((far > FAR) | (shares == 0) | (shares == 1))]
    return [row for _, row in sorted(found, key=lambda pair: (-pair[0], pair[1]["token"]))]


def draw(masks: MaskSet, params: Params, path: Path, per_camera: int) -> None:
    """The contact sheet as PNG."""
    scenes = opened(params.scenes.root, params.scenes.version)

    def pair(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(scenes.frame(row["sample"]).cameras[row["camera"]].path, TILE_PX, "stretch")
        return image, contact_sheet.overlay(image, masks.mask(row["token"]), masks.classes(row["token"]))

    chosen = contact_sheet.picks(masks.rows, per_camera)
    page = contact_sheet.sheet({camera: [pair(row) for row in rows] for camera, rows in chosen.items()})
    io.write_bytes(path, cv2.imencode(".png", page[..., ::-1])[1].tobytes())


def main(arguments: argparse.Namespace) -> None:
    """Check, tell, draw."""
    params = None if arguments.alone else read_params()
    masks = check(arguments.folder)
    complete(masks, params)
    for row in summary.share_table(masks.rows):
        print(
            f"{row['split']:12} {row['camera']:16} {row['images']:7} images, foreground {row['foreground_share']:.3f}"
        )
    odd = outliers(masks.rows)
    whole = "no camera lacks" if params is None else "none lacks"
    print(f"{len(masks)} masks, every hash as written, {whole}; {len(odd)} with an odd share of foreground")
    for named in odd[: arguments.named]:
        print(f"  {named['token']} {named['scene']} {named['camera']} {named['foreground_share']:.3f}")
    if arguments.sheet != "none" and params is not None:
        draw(masks, params, Path(arguments.sheet), arguments.per_camera)
        print(f"contact sheet: {arguments.sheet}")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.masks.verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=shards.FOLDER)
    parser.add_argument("--sheet", default=str(SHEET), help="PNG to write, or none")
    parser.add_argument("--alone", action="store_true", help="do not open the data set; nothing is drawn then")
    parser.add_argument("--per-camera", type=int, default=PER_CAMERA)
    parser.add_argument("--named", type=int, default=20, help="how many odd masks are named")
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        main(parse())
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
