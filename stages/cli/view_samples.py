"""The page of `fastdrive view`: numbers and answers of one cell of the tables, their pictures as files
beside it, and one script, allowed by its hash.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.core.errors import ParamsError
from stages.core.io import read_parquet, write_bytes, write_json, write_text
from stages.core.params import Params
from stages.core.progress import progress
from stages.report.images import kept_tokens, road_from_above, shrunk
from stages.report.inputs import made_by, read_answers
from stages.report.page import content_policy, templates
from stages.scenes.base import Frame
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes, open_scenes

HERE = Path(__file__).parent / "viewer"
REPORT_STYLE = Path(__file__).parents[1] / "report" / "page.css"
FRONT, WIDEST_PX = "CAM_FRONT", 960
ABOUT = (
    "Key frames with a score, one at a time. Next and previous by button, by arrow keys, or by j and k. L2, collision "
    "and intersection by the protocol {protocol}."
)


@dataclass(frozen=True)
class Sample:
    """One key frame and its scored plan; `image` and `road` are names of files."""

    number: int  # in the order of time, from 1
    token: str
    scene: str
    event: str | None
    speed_mps: float
    l2_cm: float  # mean of the protocol's values at 1, 2, 3 s
    l2_3s_cm: float | None  # distance at 3 s; None where the recorded future ends before
    collision: float  # at 3 s: 1 where it collides, or a share of steps
    intersection: float
    parsed: bool
    answer: str
    tokens_kept: int
    tokens_total: int
    plan_m: list[list[float]]  # (6, 2) x forward, y left
    future_m: list[list[float]]
    image: str
    road: str


def check_cell(name: str, percent: int, params: Params) -> None:
    """Raise ParamsError for a row or prune ratio that the tables do not have."""
    grid = params.grid
    if name not in grid.names or percent not in grid.ratios_of(name):
        ratios = {row: grid.ratios_of(row) for row in grid.names}
        raise ParamsError(
            expected=f"a row of the grid and one of its prune ratios: {ratios}",
            got=f"{name} at {percent}",
            fix=f"`fastdrive view {grid.names[0]} --percent {grid.ratios_of(grid.names[0])[0]}` is one",
        )


def write_samples(name: str, percent: int, params: Params, folder: Path) -> list[Sample]:
    """Write the scored samples of a cell into `folder`: pictures and `samples.json`. Controls have no kept tokens.

    Raises DataError naming the stage to run where plans or scores are missing.
    """
    check_cell(name, percent, params)
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    scores = read_parquet(Path(f"results/scores/{name}.parquet"), made_by("score", name, params.grid)).to_pylist()
    rows = {row["token"]: row for row in scores if row["pruned_percent"] == percent}
    answers = read_answers([(name, percent)], rows.keys(), params.grid)[name, percent]
    samples = list(progress(_samples(rows, answers, scenes, params, folder), len(rows), f"pictures of {name}"))
    about = {"method": name, "pruned_percent": percent, "protocol": params.score_plans.protocol}
    write_json(folder / "samples.json", about | {"samples": [asdict(sample) for sample in samples]})
    return samples


def _samples(
    rows: Mapping[str, Any], answers: Mapping[str, Any], scenes: Scenes, params: Params, folder: Path
) -> Iterator[Sample]:
    for number, (token, row) in enumerate(rows.items(), start=1):
        frame, answer = scenes.frame(token), answers[token]
        plan_m = np.nan_to_num(np.array(answer["waypoints_m"], float)).reshape(6, 2)
        image, road = f"images/{number:05d}.webp", f"images/{number:05d}.svg"
        write_bytes(folder / image, _front(frame, answer, params), sync=False)
        write_bytes(folder / road, road_from_above(frame, plan_m, scenes.drivable_mask(frame)), sync=False)
        yield Sample(
            number,
            token,
            frame.scene,
            row["event"],
            round(frame.speed_mps, 2),
            100 * float(np.mean([row[f"l2_m_{s}s"] for s in (1, 2, 3)])),
            row["l2_at_cm_3s"],
            row["collision_3s"],
            row["intersection_3s"],
            answer["parsed"],
            answer["answer"],
            answer["tokens_kept"],
            answer["tokens_total"],
            plan_m.round(3).tolist(),
            np.nan_to_num(frame.future_ego_m).round(3).tolist(),
            image,
            road,
        )


def _front(frame: Frame, answer: Mapping[str, Any], params: Params) -> bytes:
    shown = read_image(frame.cameras[FRONT].path, params.vla.size_px, params.vla.fit)
    if answer["kept"] and answer["tokens_kept"] < answer["tokens_total"]:
        shown = kept_tokens(shown, np.array(answer["kept"], np.int64), (answer["grid_h"], answer["grid_w"]))
    buffer = io.BytesIO()
    Image.fromarray(shrunk(shown, WIDEST_PX)).save(buffer, format="WEBP", quality=80)
    return buffer.getvalue()


def write_page(folder: Path, name: str, percent: int, protocol: str, samples: Sequence[Sample]) -> Path:
    """Write `index.html` into `folder`, where the pictures of `samples` lie. It opens by double click."""
    style = REPORT_STYLE.read_text(encoding="utf-8") + (HERE / "viewer.css").read_text(encoding="utf-8")
    script = (HERE / "viewer.js").read_text(encoding="utf-8")
    page = templates(HERE).get_template("page.html.jinja")
    text = page.render(
        title=f"{name}, {percent} % pruned" if percent else f"{name}, unpruned",
        about=ABOUT.format(protocol=protocol),
        held={"samples": [asdict(sample) for sample in samples]},
        style=style,
        script=script,
        policy=content_policy("'self' file:", style, script),
    )
    write_text(folder / "index.html", text)
    return folder / "index.html"
