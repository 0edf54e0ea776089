"""Numbers about a mask set: images, share of foreground, agreement with the truth.

Pure: class maps, rows and sums in, tables out. Pixels are summed per image, ratios taken at the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from stages.masks.base import CLASSES
from stages.scenes.base import CAMERAS

ROWS = 1 + len(CLASSES)  # row 0: foreground of any class; row i: class i of CLASSES
RESAMPLES, SEED = 2000, 1  # of the bootstrap over scenes


def overlap(ours: UInt8[np.ndarray, "H W"], truth: UInt8[np.ndarray, "H W"]) -> Int[np.ndarray, "6 2"]:
    """Pixels in the intersection and in the union: of foreground (row 0) and of each class."""
    pairs = np.bincount(ours.ravel().astype(np.int64) * ROWS + truth.ravel(), minlength=ROWS * ROWS).reshape(ROWS, ROWS)
    both = pairs.diagonal().copy()
    either = pairs.sum(0) + pairs.sum(1) - both
    both[0], either[0] = pairs[1:, 1:].sum(), pairs.sum() - pairs[0, 0]
    return np.stack([both, either], axis=1)


def iou(sums: Int[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any"]:
    """Intersection over union of summed pixels; NaN where neither has a pixel."""
    both, either = sums[..., 0].astype(float), sums[..., 1].astype(float)
    return np.divide(both, either, out=np.full(either.shape, np.nan), where=either > 0)


def interval(sums: Int[np.ndarray, "S 2"], resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the IoU over S scenes, which are independent where images of one scene are not."""
    S = len(sums)
    picks = np.random.default_rng(seed).integers(0, S, (resamples, S))
    low, high = np.nanquantile(iou(sums[picks].sum(axis=1)), [0.025, 0.975])
    return float(low), float(high)


def share_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[Any, Any]]:
    """Return per split and camera the number of images and their mean share of foreground pixels."""
    table = pd.DataFrame(rows, columns=["split", "camera", "foreground_share"])
    groups = table.groupby(["split", "camera"])["foreground_share"]
    return groups.agg(images="size", foreground_share="mean").reset_index().to_dict("records")


def agreement_table(overlaps: Sequence[Mapping[str, Any]], shares: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """IoU with the truth: foreground per camera, each class over all cameras, and the mean of either.

    `overlaps` has one entry per scene: camera -> pixel sums (6, 2) of `overlap`; `shares` is the table of
    `share_table`. Empty in, empty out.
    """
    cameras = [camera for camera in CAMERAS if any(camera in overlap for overlap in overlaps)]
    if not cameras:
        return []
    images = {name: sum(row["images"] for row in shares if row["camera"] == name) for name in cameras}
    none = np.zeros((ROWS, 2), np.int64)
    sums = np.array(
        [[overlap.get(camera, none) for camera in cameras] for overlap in overlaps]
    )  # scene, camera, row, 2
    per_camera = [_line("camera", name, sums[:, i, 0], images[name]) for i, name in enumerate(cameras)]
    whole = sum(images[name] for name in cameras)
    per_class = [_line("class", name, sums[:, :, i + 1].sum(axis=1), whole) for i, name in enumerate(CLASSES)]
    return [*per_camera, _mean(per_camera), *per_class, _mean(per_class)]


def _line(of: str, name: str, sums: Int[np.ndarray, "S 2"], images: int) -> dict[str, Any]:
    """One row: IoU with its interval and the counts behind it; null where the class is in neither."""
    both, either = (int(value) for value in sums.sum(axis=0))
    low, high = interval(sums, RESAMPLES, SEED) if either else (None, None)
    value = both / either if either else None
    return {
        "of": of, "name": name, "images": images, "scenes": len(sums), "both_px": both, "either_px": either,
        "iou": value, "low": low, "high": high,
    }  # fmt: skip


def _mean(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = [line for line in lines if line["iou"] is not None]
    totals = {key: sum(line[key] for line in known) for key in ("both_px", "either_px")}
    mean = float(np.mean([line["iou"] for line in known])) if known else None
    counts = {"images": max(line["images"] for line in lines), "scenes": lines[0]["scenes"]}
    return {"of": lines[0]["of"], "name": "mean", **counts, **totals, "iou": mean, "low": None, "high": None}


def metrics_tree(shares: Sequence[Mapping[str, Any]], agreements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tables as nested numbers, for `dvc metrics diff`."""
    tree: dict[str, Any] = {"images": {}, "foreground_share": {}, "iou": {}}
    for row in shares:
        tree["images"].setdefault(row["split"], {})[row["camera"]] = row["images"]
        tree["foreground_share"].setdefault(row["split"], {})[row["camera"]] = round(row["foreground_share"], 6)
    for row in agreements:
        keys = ("iou", "low", "high", "images", "scenes", "both_px", "either_px")
        tree["iou"].setdefault(row["of"], {})[row["name"]] = {
            key: round(row[key], 6) if isinstance(row[key], float) else row[key] for key in keys if row[key] is not None
        }
    return tree
