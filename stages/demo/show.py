"""`fastdrive demo`: draw a frame, look at it with the committed weights, write the strip and its numbers."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from stages.core.errors import ParamsError
from stages.core.io import read_json, write_bytes, write_json
from stages.demo.frame import draw_frame
from stages.demo.look import DRIVER, METHOD, PRUNER, look
from stages.demo.out import check_out
from stages.demo.strip import l2_m, strip
from stages.efficiency.accounts import account
from stages.efficiency.shapes import model_shape
from stages.pruning import base

PERCENTS = (25, 50, 75)
PROMPT_TOKENS = 100  # of text beside the image, as profile_efficiency counts


def show(out: Path, seed: int, percent: int) -> dict[str, Any]:
    """Write the PNG `out` and the same numbers as JSON beside it; returns them. `percent` is one of PERCENTS.

    Raises ParamsError for another ratio, a negative seed or an `out` that is a JSON, DataError for damaged weights.
    """
    check_out(out)
    if percent not in PERCENTS or seed < 0:
        raise ParamsError(
            expected=f"--percent of {', '.join(map(str, PERCENTS))}, and a --seed of at least 0",
            got=f"--percent {percent} --seed {seed}",
            fix="run `fastdrive demo --percent 50`",
        )
    torch.set_num_threads(1)  # more bring a model this small nothing
    with TemporaryDirectory() as folder:
        drawn = draw_frame(seed, Path(folder))
        seen = look(drawn.frame, PERCENTS)
    picture, panels = strip(drawn, seen, percent)
    numbers = {
        "seed": seed,
        "event": drawn.event,
        "speed_mps": round(drawn.frame.speed_mps, 3),
        "grid": list(seen.grid),
        "tokens": len(seen.scores),
        "kept": {str(p): tokens.tolist() for p, tokens in seen.kept.items()},
        "taken_for_foreground": seen.foreground,
        "scores": [round(float(score), 4) for score in seen.scores],
        "plans_m": {str(p): path_m.round(2).tolist() for p, path_m in seen.plans_m.items()},
        "recorded_m": drawn.frame.future_ego_m.round(2).tolist(),
        "l2_m": {str(p): round(l2_m(path_m, drawn.frame.future_ego_m), 3) for p, path_m in seen.plans_m.items()},
        "flops_ratio": _flops_ratios(seen.grid),
        "panels_px": panels,
    }
    write_bytes(out, picture)
    write_json(out.with_suffix(".json"), numbers)
    return numbers


def _flops_ratios(grid: tuple[int, int]) -> dict[str, float]:
    """FLOPs of a prompt unpruned / pruned by prune ratio, vision tower and choosing included, in closed form."""
    shape = model_shape(read_json(DRIVER / "config.json", "dvc repro train_driver"))
    method = base.load(METHOD, {"checkpoint": str(PRUNER)})
    rows = account(shape, grid, PROMPT_TOKENS, PERCENTS, method)["rows"]
    return {str(row["percent"]): round(row["ratio"]["with_vision"], 3) for row in rows if row["percent"]}
