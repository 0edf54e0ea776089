"""Check a finished mask set: every hash, every image of the data set, outliers; and draw a contact sheet.

    python -m stages.masks.verify                      # data/masks against scenes.root; draws runs/contact_sheet.png
    python -m stages.masks.verify --sheet none         # without the images
    python -m stages.masks.verify FOLDER --alone       # without the data set: its cameras against each other

Ends with 0 when the set is whole (outliers are only named), 3 when a byte is other than written or a scene, camera or
mask lacks, 2 when params.yaml is wrong.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from stages.core import io
from stages.core.command import run
from stages.core.errors import DataError
from stages.core.params import Params
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
    """Return the set, every byte of its files checked. Raises DataError naming the first that is not as written."""
    masks = MaskSet(folder)
    for name in io.read_json(folder / io.MANIFEST, mask_set.MADE_BY)["files"]:
        io.check_file(folder, name, mask_set.MADE_BY)
    return masks


def faults_of(rows: Sequence[Row], scenes: Scenes | None, split_of: Mapping[str, str]) -> list[str]:
    """Return a line for each image that lacks a mask, or has one of another scene, split or camera set."""
    held = defaultdict[str, set[str]](set)
    for row in rows:
        held[row["sample"]].add(row["camera"])
    faults = list[str]()
    if scenes is None:
        cameras = dict.fromkeys(held, {row["camera"] for row in rows})
    else:
        expected = {(token, scene, split_of[scene]) for scene in split_of for token in scenes.tokens_of_scene(scene)}
        got = {(row["sample"], row["scene"], row["split"]) for row in rows}
        faults += ["no mask of sample {} of {} ({})".format(*absent) for absent in sorted(expected - got)]
        faults += ["masks of sample {} as of {} ({})".format(*odd) for odd in sorted(got - expected)]
        known = [sample for sample, *_ in expected if sample in held and len(held[sample]) < len(CAMERAS)]
        cameras = {sample: set(scenes.frame(sample).cameras) for sample in known}
    lost = {sample: sorted(names - held[sample]) for sample, names in sorted(cameras.items())}
    return faults + [f"no mask of {', '.join(names)} in sample {sample}" for sample, names in lost.items() if names]


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


def draw(masks: MaskSet, scenes: Scenes, path: Path) -> None:
    """Draw the contact sheet as PNG: a row per camera, of images evenly spaced and their overlays."""
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


def main(words: argparse.Namespace, params: Params) -> None:
    """Check, print the counts, draw. Raises DataError naming absent masks: of the data set, else between cameras."""
    masks, source = check(words.folder), params.scenes
    scenes = None if words.alone else open_scenes(source.root, source.version)
    split_of = split_of_scene(scenes, (source.train_split, source.eval_split)) if scenes else {}
    if faults := faults_of(masks.rows, scenes, split_of):
        got = f"{len(faults)} faults: {'; '.join(faults[:5])}{'; ...' * (len(faults) > 5)}"
        raise DataError(expected="a mask of every image", got=got, fix=f"run `{mask_set.MADE_BY}`")
    for of in agreement.share_table(masks.rows):
        print(f"{of['split']:12} {of['camera']:16} {of['images']:7} images, foreground {of['foreground_share']:.3f}")
    odd = outliers(masks.rows)
    print(f"{len(masks.rows)} masks, every hash as written, none lacks; {len(odd)} with an odd share of foreground")
    for named in odd[:NAMED]:
        print(f"  {named['token']} {named['scene']} {named['camera']} {named['foreground_share']:.3f}")
    if words.sheet != "none" and scenes is not None:
        draw(masks, scenes, Path(words.sheet))
        print(f"contact sheet: {words.sheet}")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.masks.verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=mask_set.FOLDER)
    parser.add_argument("--sheet", default=str(SHEET), help="PNG to write, or none")
    parser.add_argument("--alone", action="store_true", help="do not open the data set; nothing is drawn then")
    return parser.parse_args(words)


if __name__ == "__main__":
    run(partial(main, parse()))
