"""Pictures of a few key frames: what each method kept, where the plans lead, what counts as foreground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from stages.core.params import Grid, Vla
from stages.masks.mask_set import MaskSet
from stages.report.ahead import paths_ahead
from stages.report.answers import Answer, Cell, read_answers
from stages.report.figures import svg
from stages.report.page import Gallery, Group, Picture, Slider, Step, Table
from stages.report.pictures import birds_eye, jpeg, kept_tokens, shrunk, tinted, webp
from stages.scenes.base import Frame
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes

FRONT = "CAM_FRONT"
LARGEST_PX = 560  # widest picture on the page


@dataclass(frozen=True)
class Shown:
    """A key frame with the answers of each method and prune ratio."""

    frame: Frame
    answers: Mapping[Cell, Answer]
    drivable: NDArray[np.bool_]

    @property
    def title(self) -> str:
        return f"{self.frame.scene}, key frame {self.frame.token}, {self.frame.speed_mps:.1f} m/s"


def show_frames(scenes: Scenes, split: str, count: int, grid: Grid, methods: Sequence[str]) -> list[Shown]:
    """`count` key frames spread evenly over those of `split` whose future is recorded, with the answers for them.

    Answers of the unpruned driver, and of `methods` at each prune ratio.
    """
    tokens = scenes.tokens(split)
    later = [tokens[int((i + 0.5) * len(tokens) / count) :] for i in range(count)]
    found = [next((frame for frame in map(scenes.frame, part) if frame.complete), None) for part in later]
    frames = [frame for frame in found if frame is not None]
    cells = [("none", 0), *((name, percent) for name in methods for percent in grid.percents)]
    rows = read_answers(cells, {frame.token for frame in frames}, grid)
    return [
        Shown(
            frame,
            {cell: by_token[frame.token] for cell, by_token in rows.items() if frame.token in by_token},
            scenes.drivable_mask(frame),
        )
        for frame in frames
    ]


def overlays(shown: Shown, masks: MaskSet, vla: Vla, percents: Sequence[int]) -> list[Gallery | Slider]:
    """The front image and its foreground; then what every method kept, at the ratio that the reader chooses."""
    camera = shown.frame.cameras[FRONT]
    image = read_image(camera.path, vla.size_px, vla.fit)
    whole = read_image(camera.path, camera.size_px)
    what = f"front camera of {shown.title}"
    tint = shrunk(tinted(whole, masks.mask(camera.token)), LARGEST_PX)
    first = [
        Picture(jpeg(image), "jpeg", f"{what}, as the driver sees it", "as the driver sees it"),
        Picture(jpeg(tint), "jpeg", f"{what}, foreground tinted", "foreground"),
    ]
    steps = [Step(f"{percent} % pruned", _kept(shown, image, percent, what)) for percent in percents]
    slider = Slider(f"Kept tokens, {shown.title}", "Prune ratio", steps, start=len(steps) // 2)
    return [Gallery(first, across=3, title=shown.title), slider]


def _kept(shown: Shown, image: UInt8[np.ndarray, "H W 3"], percent: int, what: str) -> Gallery:
    """A picture per method, in the order of the answers."""
    pictures = [
        Picture(
            webp(kept_tokens(image, np.array(answer["kept"], np.int64), (answer["grid_h"], answer["grid_w"]))),
            "webp",
            f"{what}: the tokens {name} kept at {percent} % pruned, the others darkened",
            name,
        )
        for (name, at), answer in shown.answers.items()
        if at == percent
    ]
    return Gallery(pictures, across=min(5, max(1, len(pictures))))


def roads(shown: Sequence[Shown], percents: Sequence[int], methods: Sequence[str]) -> list[Gallery]:
    """Each frame from ahead and from above, a picture per prune ratio: the recorded path, the plan without pruning, and
    the plans of `methods` at that ratio."""
    return [
        Gallery([draw(one, percent, methods) for draw in (_ahead, _road) for percent in percents], 3, one.title)
        for one in shown
    ]


def _plans_m(one: Shown, percent: int, methods: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    cells = (("none", 0), *((name, percent) for name in methods))
    found = {name: one.answers[name, at]["waypoints_m"] for name, at in cells if (name, at) in one.answers}
    return {name: np.array(points_m, np.float64).reshape(6, 2) for name, points_m in found.items()}


def _ahead(one: Shown, percent: int, methods: Sequence[str]) -> Picture:
    plans_m, camera = _plans_m(one, percent, methods), one.frame.cameras[FRONT]
    picture = paths_ahead(read_image(camera.path, camera.size_px), one.frame, plans_m, camera)
    alt = f"{one.title}, front camera: the recorded path, and the plans of {', '.join(plans_m)} at {percent} % pruned"
    return Picture(jpeg(shrunk(picture, LARGEST_PX)), "jpeg", alt, f"{percent} % pruned, colours as below")


def _road(one: Shown, percent: int, methods: Sequence[str]) -> Picture:
    plans_m = _plans_m(one, percent, methods)
    alt = f"{one.title} from above: the recorded path, and the plans of {', '.join(plans_m)} at {percent} % pruned"
    return Picture(svg(birds_eye(one.frame, plans_m, one.drivable)), "svg+xml", alt, f"{percent} % pruned")


def answers(shown: Sequence[Shown], methods: Sequence[str]) -> Table:
    """The raw answers behind `roads`, word for word."""
    groups = []
    for one in shown:
        rows = [
            [f"{name}, {percent} %" if percent else name, "yes" if answer["parsed"] else "no", answer["answer"]]
            for (name, percent), answer in one.answers.items()
            if name in ("none", *methods)
        ]
        groups.append(Group(rows, one.title))
    caption = "Answers of the driver, word for word, at each prune ratio"
    return Table(caption, ["Method", "Parsed", "Answer"], groups, prose=True)


def mask_samples(frame: Frame, masks: MaskSet, count: int) -> Gallery:
    """The first `count` cameras of a key frame with their foreground tinted."""
    pictures = []
    for channel, camera in list(frame.cameras.items())[:count]:
        share = masks.row(camera.token)["foreground_share"]
        picture = shrunk(tinted(read_image(camera.path, camera.size_px), masks.mask(camera.token)), LARGEST_PX)
        alt = f"{channel} of {frame.scene} with its foreground tinted"
        pictures.append(Picture(jpeg(picture), "jpeg", alt, f"{channel}: {100 * share:.1f} % foreground"))
    return Gallery(pictures, across=3)
