"""The masks with the least and with the most foreground of the evaluation split: where an annotator fails it shows."""

from collections.abc import Sequence
from typing import Any

from stages.masks.mask_set import MaskSet
from stages.report.page import Gallery, Picture
from stages.report.pictures import jpeg, shrunk, tinted
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes

Row = dict[str, Any]

WIDTH_PX = 400


def extremes(rows: Sequence[Row], count: int) -> tuple[list[Row], list[Row]]:
    """The `count` rows with the smallest and with the largest `foreground_share`, extreme first; of equals by token.

    One image per scene and camera, or one bad camera would fill the row.
    """
    found = []
    for sign in (1, -1):
        once: dict[tuple[str, str], Row] = {}
        for row in sorted(rows, key=lambda row: (sign * row["foreground_share"], row["token"])):
            once.setdefault((row["scene"], row["camera"]), row)
        found.append(list(once.values())[:count])
    return found[0], found[1]


def coverage_galleries(scenes: Scenes, masks: MaskSet, split: str, count: int) -> list[Gallery]:
    """Both extremes of the images of `split`, foreground tinted; nothing when `count` is 0."""
    wanted = set(scenes.tokens(split))
    least, most = extremes([row for row in masks.rows if row["sample"] in wanted], count)
    titles = {"Least foreground": least, "Most foreground": most}
    return [
        Gallery([_picture(scenes, masks, row) for row in rows], across=3, title=title)
        for title, rows in titles.items()
        if rows
    ]


def _picture(scenes: Scenes, masks: MaskSet, row: Row) -> Picture:
    camera = scenes.frame(row["sample"]).cameras[row["camera"]]
    shown = tinted(read_image(camera.path, camera.size_px), masks.mask(row["token"]))
    share = f"{100 * row['foreground_share']:.1f} % foreground"
    where = f"{row['camera']} of {row['scene']}"
    return Picture(
        jpeg(shrunk(shown, WIDTH_PX)), "jpeg", f"{where}, its foreground tinted: {share}", f"{where}: {share}"
    )
