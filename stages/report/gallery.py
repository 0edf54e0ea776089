"""Pictures of a few key frames: what each method kept, where the plans lead, what counts as foreground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.files import read_parquet
from stages.masks.shards import MaskSet
from stages.report.figures import svg
from stages.report.inputs import made_by
from stages.report.page import Gallery, Group, Picture, Table
from stages.report.pictures import birds_eye, jpeg, kept_tokens, tinted
from stages.scenes.base import Frame
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes
from stages.sections import Grid, Vla
from stages.vla.plans import plans_path

FRONT = "CAM_FRONT"
LARGEST_PX = 560  # widest picture on the page

Answer = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """A key frame with the answers of each method and prune ratio."""

    frame: Frame
    answers: Mapping[tuple[str, int], Answer]  # columns of stages/vla/plans.py
    drivable: NDArray[np.bool_]

    @property
    def title(self) -> str:
        return f"{self.frame.scene}, key frame {self.frame.token}, {self.frame.speed_mps:.1f} m/s"


def show_frames(scenes: Scenes, split: str, count: int, grid: Grid) -> list[Shown]:
    """`count` key frames spread evenly over those of `split` whose future is recorded, with all answers for them.

    Of the trained pruners the first alone: the others are shown where training is.
    """
    methods = [name for name in [*grid.pruners, *grid.trained[:1]] if name != "none"]
    cells = [("none", 0), *((name, percent) for name in methods for percent in grid.percents)]
    by_token = {cell: _answers_of(cell, grid) for cell in cells}
    tokens = scenes.tokens(split)
    shown = []
    for i in range(count):
        later = tokens[int((i + 0.5) * len(tokens) / count) :]
        frame = next((frame for frame in map(scenes.frame, later) if frame.complete), None)
        if frame is not None:
            answers = {cell: rows[frame.token] for cell, rows in by_token.items() if frame.token in rows}
            shown.append(Shown(frame, answers, scenes.drivable_mask(frame)))
    return shown


def _answers_of(cell: tuple[str, int], grid: Grid) -> dict[str, Answer]:
    """The rows of a plan file by token, without the scores, which are most of it."""
    table = read_parquet(plans_path(*cell), made_by("plan", cell[0], grid))
    shown = [name for name in table.column_names if name != "scores"]
    return {row["token"]: row for row in table.select(shown).to_pylist()}


def overlays(shown: Shown, masks: MaskSet, vla: Vla) -> list[Gallery]:
    """The front image, its foreground, and the tokens that each method kept, a row per method."""
    camera = shown.frame.cameras[FRONT]
    image = read_image(camera.path, vla.size_px, vla.fit)
    whole = read_image(camera.path, camera.size_px)
    what = f"front camera of {shown.title}"
    first = [
        Picture(jpeg(image), "jpeg", f"{what}, as the driver sees it", "as the driver sees it"),
        Picture(
            jpeg(_shrunk(tinted(whole, masks.mask(camera.token)))), "jpeg", f"{what}, foreground tinted", "foreground"
        ),
    ]
    kept = [
        Picture(
            jpeg(kept_tokens(image, np.array(answer["kept"], np.int64), (answer["grid_h"], answer["grid_w"]))),
            "jpeg",
            f"{what}: the tokens {name} kept at {percent} % pruned, the others darkened",
            f"{name}, {percent} % pruned",
        )
        for (name, percent), answer in shown.answers.items()
        if percent
    ]
    return [Gallery(first, across=3, title=shown.title), Gallery(kept, across=3)]


def roads(shown: Sequence[Shown], percent: int) -> Gallery:
    """Each frame from above: the recorded path, and the plans without pruning and at `percent`."""
    pictures = []
    for one in shown:
        cells = {cell: answer for cell, answer in one.answers.items() if cell[1] in (0, percent)}
        plans_m = {name: np.array(answer["waypoints_m"]).reshape(6, 2) for (name, _), answer in cells.items()}
        alt = f"{one.title} from above: the recorded path, and the plans of {', '.join(plans_m)} at {percent} % pruned"
        pictures.append(Picture(svg(birds_eye(one.frame, plans_m, one.drivable)), "svg+xml", alt, one.title))
    return Gallery(pictures, across=3)


def answers(shown: Sequence[Shown], percent: int) -> Table:
    """The raw answers behind `roads`, word for word."""
    groups = []
    for one in shown:
        cells = [(name, answer) for (name, p), answer in one.answers.items() if p in (0, percent)]
        rows = [[name, "yes" if answer["parsed"] else "no", answer["answer"]] for name, answer in cells]
        groups.append(Group(rows, one.title))
    caption = f"Answers of the driver, word for word, at {percent} % pruned"
    return Table(caption, ["Method", "Parsed", "Answer"], groups, prose=True)


def mask_samples(frame: Frame, masks: MaskSet, count: int) -> Gallery:
    """The first `count` cameras of a key frame with their foreground tinted."""
    pictures = []
    for channel, camera in list(frame.cameras.items())[:count]:
        share = masks.row(camera.token)["foreground_share"]
        picture = _shrunk(tinted(read_image(camera.path, camera.size_px), masks.mask(camera.token)))
        alt = f"{channel} of {frame.scene} with its foreground tinted"
        pictures.append(Picture(jpeg(picture), "jpeg", alt, f"{channel}: {100 * share:.1f} % foreground"))
    return Gallery(pictures, across=3)


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    H, W, _ = image.shape
    if W <= LARGEST_PX:
        return image
    return np.asarray(cv2.resize(image, (LARGEST_PX, H * LARGEST_PX // W), interpolation=cv2.INTER_AREA), np.uint8)
