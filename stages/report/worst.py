"""The samples that each pruner drove worst: what it kept, where the plan led, and the answer word for word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from stages.core.params import Grid, Vla
from stages.report.answers import Answer, Cell, read_answers
from stages.report.page import Case, Cases, Picture, Section, Words
from stages.report.pictures import kept_tokens, shrunk, webp
from stages.report.references import Samples, recorded
from stages.report.roads import small_road
from stages.scenes.base import Frame
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes

Row = dict[str, Any]

FRONT, WIDTH_PX = "CAM_FRONT", 240
ABOUT = (
    "The key frames with the largest error at 3 s, each at the prune ratio where it is worst, largest first. Left the "
    "front camera with the dropped tokens dark; right the road from above, what was driven in black (white on a dark "
    "page), the plan in orange. Below each the driver's answer, word for word. Open a title to see them."
)


@dataclass(frozen=True)
class Seen:
    """What a sample looks like, shared by all pruners that are bad at it."""

    frame: Frame
    image: UInt8[np.ndarray, "H W 3"]
    drivable: np.ndarray


def worst_rows(samples: Samples, name: str, percents: Sequence[int], count: int) -> list[Row]:
    """The `count` samples of a pruner with the largest error at 3 s, each once at its worst ratio, worst first.

    Key frames whose future ends before are no candidates.
    """
    largest: dict[str, Row] = {}
    for row in (row for percent in percents for row in recorded(samples[name, percent])):
        held = largest.get(row["token"])
        if held is None or row["l2_at_cm_3s"] > held["l2_at_cm_3s"]:
            largest[row["token"]] = dict(row)
    return sorted(largest.values(), key=lambda row: (-row["l2_at_cm_3s"], row["token"]))[:count]


def worst_sections(samples: Samples, scenes: Scenes, grid: Grid, vla: Vla, count: int) -> list[Section]:
    """A list of cases for each pruner; none when `count` is 0."""
    names = grid.methods
    found = {name: worst_rows(samples, name, grid.ratios_of(name), count) for name in names}
    tokens = {row["token"] for rows in found.values() for row in rows}
    if not tokens:
        return []
    cells = list(dict.fromkeys((name, row["pruned_percent"]) for name, rows in found.items() for row in rows))
    answers = read_answers(cells, tokens, grid)
    seen = {token: _seen(scenes, token, vla) for token in sorted(tokens)}
    blocks = [_cases(name, rows, answers, seen) for name, rows in found.items()]
    return [Section(f"The worst {count} of each pruner", [Words(ABOUT), *blocks])]


def _seen(scenes: Scenes, token: str, vla: Vla) -> Seen:
    frame = scenes.frame(token)
    return Seen(frame, read_image(frame.cameras[FRONT].path, vla.size_px, vla.fit), scenes.drivable_mask(frame))


def _cases(
    name: str, rows: Sequence[Row], answers: Mapping[Cell, Mapping[str, Answer]], seen: Mapping[str, Seen]
) -> Cases:
    errors_m = [row["l2_at_cm_3s"] / 100 for row in rows]
    said = f"{len(rows)} key frames, {errors_m[-1]:.1f} to {errors_m[0]:.1f} m off after 3 s" if rows else "none scored"
    return Cases(
        f"{name}: {said}",
        [_case(row, name, answers[name, row["pruned_percent"]][row["token"]], seen[row["token"]]) for row in rows],
    )


def _case(row: Row, name: str, answer: Answer, seen: Seen) -> Case:
    percent = row["pruned_percent"]
    at = f"{percent} % pruned" if percent else "unpruned"
    what = f"{row['scene']}, key frame {row['token']}, {seen.frame.speed_mps:.1f} m/s"
    shown = seen.image
    if percent:
        kept = np.array(answer["kept"], np.int64)
        shown = kept_tokens(shown, kept, (answer["grid_h"], answer["grid_w"]))
    plan_m = np.array(answer["waypoints_m"], float).reshape(6, 2)
    road = small_road(seen.frame, plan_m, seen.drivable)
    words = f"{row['l2_at_cm_3s'] / 100:.1f} m off after 3 s, {at}{_events(row)}: {what}"
    return Case(
        [
            Picture(webp(shrunk(shown, WIDTH_PX)), "webp", f"{what}: what {name} kept, {at}"),
            Picture(road, "svg+xml", f"{what}: recorded and planned path from above"),
        ],
        words if answer["parsed"] else f"{words}, not parsed",
        answer["answer"],
    )


def _events(row: Row) -> str:
    hits = [
        words for name, words in (("collision", "collides"), ("intersection", "leaves the road")) if row[f"{name}_3s"]
    ]
    return "".join(f", {hit}" for hit in hits)
