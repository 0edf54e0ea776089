"""A question as Impromptu-VLA was taught to read it, made from what the car just did (research/planning.md 2.2).

The words are data: `impromptu_prompt.json`. Numbers have at most two decimals, trailing zeros dropped as Python prints
them, and there is no negative zero among the positions.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from stages.core.io import read_json
from stages.scenes.ego_history import PastStep

WORDS = Path(__file__).with_name("impromptu_prompt.json")
IMAGE = "<image>"  # stands for the image in a question


@cache
def words() -> dict[str, str]:
    """The parts of a question."""
    return read_json(WORDS, f"git checkout {WORDS.name}")


def question_text(history: Sequence[PastStep]) -> str:
    """The question at the end of `history`, oldest step first."""
    parts = words()
    steps = parts["between"].join(_step(step, parts) for step in history)
    return parts["question"].format(seconds=history[0].seconds_ago, steps=steps)


def _step(step: PastStep, parts: dict[str, str]) -> str:
    # Positions as numpy rounds, CAN bus values as Python does: they differ on halves, and so do the taught texts
    x_m, y_m = (float(np.round(value, 2)) + 0.0 for value in step.xy_m)
    place = {"seconds_ago": step.seconds_ago, "x_m": x_m, "y_m": y_m}
    if step.can is None:
        return parts["step"].format(**place)
    ahead, left = step.can.acceleration_mps2
    state = {"acceleration_x": ahead, "acceleration_y": left, "speed": step.can.speed_mps}
    return parts["step_with_can"].format(
        **place, **{name: round(value, 2) for name, value in (state | {"steering": step.can.steering_rad}).items()}
    )
