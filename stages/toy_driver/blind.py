"""The blind floor beside the weights: what the training scenes did on average, by the current speed alone."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from stages.core.io import write_json
from stages.toy_driver.judge import blind_plans

STEP_MPS = 0.1
FILE = "blind_floor.json"  # stages/vla/bounds.py reads it


def write_blind_floor(folder: Path, speed_mps: Float[Tensor, " M"], future_m: Float[Tensor, "M T 2"]) -> None:
    """One plan per 0.1 m/s, up to the fastest training speed, in metres to the centimetre."""
    steps = int(float(speed_mps.max()) / STEP_MPS) + 2
    asked_mps = torch.arange(steps) * STEP_MPS
    plans_m = blind_plans(speed_mps, future_m, asked_mps)
    rows = [[[round(x, 2), round(y, 2)] for x, y in plan] for plan in plans_m.tolist()]
    write_json(folder / FILE, {"speed_mps": [round(v, 1) for v in asked_mps.tolist()], "waypoints_m": rows})
