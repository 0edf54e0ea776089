"""Numbers about a mask set: images, share of foreground, agreement with the truth. Pixels are summed per image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from stages.masks.base import CLASSES
from stages.scenes.base import CAMERAS

ROWS = 1 + len(CLASSES)  # row 0: foreground of any class; row i: class i of CLASSES


def overlap(ours: UInt8[np.ndarray, "H W"], truth: UInt8[np.ndarray, "H W"]) -> Int[np.ndarray, "6 2"]:
    """Pixels in the intersection and in the union: of foreground (row 0) and of each class."""
    pairs = np.bincount(ours.ravel().astype(np.int64) * ROWS + truth.ravel(), minlength=ROWS * ROWS).reshape(ROWS, ROWS)
    both = pairs.diagonal().copy()
    either = pairs.sum(0) + pairs.sum(1) - both
    both[0], either[0] = pairs[1:, 1:].sum(), pairs.sum() - pairs[0, 0]
    return np.stack([both, either], axis=1)


def interval(sums: Int[np.ndarray, "S 2"], resamples: int = 2000, seed: int = 1) -> Float[np.ndarray, "2"]:
    """95 % bootstrap interval of the IoU over S scenes, which are independent where images of one scene are not."""
    picks = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    both, either = sums[picks].sum(axis=1).astype(float).T
    iou = np.divide(both, either, out=np.full(either.shape, np.nan), where=either > 0)
    return np.nanquantile(iou, [0.025, 0.975])


def share_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[Any, Any]]:
    """Return per split and camera the number of images and their mean share of foreground pixels."""
    table = pd.DataFrame(rows, columns=["split", "camera", "foreground_share"])
    groups = table.groupby(["split", "camera"])["foreground_share"]
    return groups.agg(images="size", foreground_share="mean").reset_index().to_dict("records")


def agreement_table(overlaps: Sequence[Mapping[str, Any]], shares: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """IoU with the truth, its interval and counts, by camera and by class, each with its mean; else None."""
    cameras = [camera for camera in CAMERAS if any(camera in overlap for overlap in overlaps)]
    if not cameras:
        return []
    images = [sum(row["images"] for row in shares if row["camera"] == name) for name in cameras]
    none = np.zeros((ROWS, 2), np.int64)
    # By scene, camera, row, 2
    sums = np.array([[overlap.get(camera, none) for camera in cameras] for overlap in overlaps])
    parts = {
        "camera": [(name, sums[:, i, 0], images[i]) for i, name in enumerate(cameras)],
        "class": [(name, sums[:, :, i + 1].sum(axis=1), sum(images)) for i, name in enumerate(CLASSES)],
    }
    table = []
    for of, lines in parts.items():
        known = []
        for name, pixels, count in lines:
            both, either = pixels.sum(axis=0).tolist()
            row = {"of": of, "name": name, "images": count, "scenes": len(sums), "both_px": both, "either_px": either}
            low, high = interval(pixels).tolist() if either else (None, None)
            table.append(row | {"iou": both / either if either else None, "low": low, "high": high})
            known += table[-1:] if either else []
        mean = float(np.mean([row["iou"] for row in known])) if known else None
        counts = {"images": max(count for *_, count in lines), "scenes": len(sums)}
        counts |= {key: sum(row[key] for row in known) for key in ("both_px", "either_px")}
        table.append({"of": of, "name": "mean", **counts, "iou": mean, "low": None, "high": None})
    return table


def metrics_tree(shares: Sequence[Mapping[str, Any]], agreements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tables as nested numbers, for `dvc metrics diff`."""
    tree: dict[str, Any] = {"images": {}, "foreground_share": {}, "iou": {}}
    for row in shares:
        tree["images"].setdefault(row["split"], {})[row["camera"]] = row["images"]
        tree["foreground_share"].setdefault(row["split"], {})[row["camera"]] = round(row["foreground_share"], 6)
    for row in agreements:
        numbers = {key: round(row[key], 6) for key in row.keys() - {"of", "name"} if row[key] is not None}
        tree["iou"].setdefault(row["of"], {})[row["name"]] = numbers
    return tree
