"""The page of `fastdrive view`: numbers and answers of one cell of the tables, their pictures as files
beside it, and one script, allowed by its hash.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.core.errors import ParamsError
from stages.core.io import read_parquet, write_bytes, write_json, write_text
from stages.core.params import Params
from stages.core.progress import progress
from stages.report.images import kept_tokens, road_from_above, shrunk
from stages.report.inputs import SCORE, read_answers
from stages.report.page import content_policy, templates
from stages.scenes.base import Frame
from stages.scenes.images import read_image
from stages.scenes.nuscenes import open_scenes

HERE = Path(__file__).parent / "viewer"
REPORT_STYLE = Path(__file__).parents[1] / "report" / "page.css"
FRONT, WIDEST_PX = "CAM_FRONT", 960
Sample = dict[str, Any]  # a key frame, its scores, its answer, and the names of its two pictures


def make_samples(name: str, percent: int, params: Params, folder: Path) -> list[Sample]:
    """Return the scored samples of a cell in the order of time; write their pictures into `folder`.

    Raises ParamsError for a row or prune ratio that the tables do not have, DataError naming the stage to run where
    plans or scores are missing. Controls have no kept tokens.
    """
    grid = params.grid
    if name not in grid.names or percent not in grid.ratios_of(name):
        ratios = {row: grid.ratios_of(row) for row in grid.names}
        raise ParamsError(
            expected=f"a row of the grid and one of its prune ratios: {ratios}",
            got=f"{name} at {percent}",
            fix=f"`fastdrive view {grid.names[0]} --percent {grid.ratios_of(grid.names[0])[0]}` is one",
        )
    scores = read_parquet(Path(f"results/scores/{name}.parquet"), SCORE).to_pylist()
    rows = {row["token"]: row for row in scores if row["pruned_percent"] == percent}
    answers = read_answers([(name, percent)], rows.keys(), grid)[name, percent]
    scenes, samples = open_scenes(params.scenes.root, params.scenes.version), list[Sample]()
    for token, row in progress(rows.items(), len(rows), f"pictures of {name}"):
        frame, answer, number = scenes.frame(token), answers[token], len(samples) + 1
        plan_m = np.nan_to_num(np.array(answer["waypoints_m"], float)).reshape(6, 2)
        image, road = f"images/{number:05d}.webp", f"images/{number:05d}.svg"
        write_bytes(folder / image, _front(frame, answer, params), sync=False)
        write_bytes(folder / road, road_from_above(frame, plan_m, scenes.drivable_mask(frame)), sync=False)
        samples.append(
            {
                "number": number,
                "token": token,
                "scene": frame.scene,
                "event": row["event"],
                "speed_mps": round(frame.speed_mps, 2),
                "l2_cm": 100 * float(np.mean([row[f"l2_m_{s}s"] for s in (1, 2, 3)])),
                "l2_3s_cm": row["l2_at_cm_3s"],  # None where the recorded future ends before
                "collision": row["collision_3s"],
                "intersection": row["intersection_3s"],
                "image": image,
                "road": road,
                **{key: answer[key] for key in ("parsed", "answer", "tokens_kept", "tokens_total")},
            }
        )
    return samples


def _front(frame: Frame, answer: Mapping[str, Any], params: Params) -> bytes:
    shown = read_image(frame.cameras[FRONT].path, params.vla.size_px, params.vla.fit)
    if answer["kept"] and answer["tokens_kept"] < answer["tokens_total"]:
        shown = kept_tokens(shown, np.array(answer["kept"], np.int64), (answer["grid_h"], answer["grid_w"]))
    buffer = io.BytesIO()
    Image.fromarray(shrunk(shown, WIDEST_PX)).save(buffer, format="WEBP", quality=80)
    return buffer.getvalue()


def write_page(folder: Path, name: str, percent: int, protocol: str, samples: Sequence[Sample]) -> Path:
    """Write `index.html` and `samples.json` into `folder`, where the pictures lie. It opens by double click."""
    style = REPORT_STYLE.read_text(encoding="utf-8") + (HERE / "viewer.css").read_text(encoding="utf-8")
    script = (HERE / "viewer.js").read_text(encoding="utf-8")
    about = {"method": name, "pruned_percent": percent, "protocol": protocol, "samples": samples}
    policy = content_policy("'self' file:", style, script)
    page = templates(HERE).get_template("page.html.jinja")
    write_json(folder / "samples.json", about)
    write_text(folder / "index.html", page.render(about=about, style=style, script=script, policy=policy))
    return folder / "index.html"
