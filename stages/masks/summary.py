"""Numbers about a mask set: images, foreground share, agreement with the truth. Pure: rows and sums in, tables out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.masks import agreement
from stages.masks.base import CLASSES
from stages.scenes.base import CAMERAS

RESAMPLES, SEED = 2000, 1  # of the bootstrap over scenes


def share_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per split and camera: number of images and mean share of foreground pixels."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["split"], row["camera"]), []).append(row["foreground_share"])
    return [
        {"split": split, "camera": camera, "images": len(shares), "foreground_share": float(np.mean(shares))}
        for (split, camera), shares in sorted(groups.items())
    ]


def agreement_table(overlaps: Sequence[Mapping[str, Any]], shares: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """IoU with the truth: foreground per camera, each class over all cameras, and the mean of either.

    `overlaps` has one entry per scene: camera -> pixel sums (6, 2) of `agreement.overlap`; `shares` is the table of
    `share_table`. Empty in, empty out.
    """
    cameras = [camera for camera in CAMERAS if any(camera in overlap for overlap in overlaps)]
    if not cameras:
        return []
    images = {name: sum(row["images"] for row in shares if row["camera"] == name) for name in cameras}
    none = np.zeros((agreement.ROWS, 2), np.int64)
    sums = np.array(
        [[overlap.get(camera, none) for camera in cameras] for overlap in overlaps]
    )  # scene, camera, row, 2
    per_camera = [_line("camera", name, sums[:, i, 0], images[name]) for i, name in enumerate(cameras)]
    whole = sum(images[name] for name in cameras)
    per_class = [_line("class", name, sums[:, :, i + 1].sum(axis=1), whole) for i, name in enumerate(CLASSES)]
    return [*per_camera, _mean(per_camera), *per_class, _mean(per_class)]


def _line(of: str, name: str, sums: np.ndarray, images: int) -> dict[str, Any]:
    """One row: IoU with its interval and the counts behind it; null where the class is in neither."""
    both, either = (int(value) for value in sums.sum(axis=0))
    low, high = agreement.interval(sums, RESAMPLES, SEED) if either else (None, None)
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
