"""Impromptu-VLA's answers: every text gives the trajectory that its own evaluator, or its closed-loop server, reads."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.vla.impromptu import MODES, parse_answer

KIND = ".json"
DIGITS = 6e-6  # the expectations are printed with five decimals, of numbers in float32


def trajectory(text: str, mode: str) -> NDArray[np.float64]:
    """As the published code has it: its evaluator x right, y forward; the server x forward, y left."""
    waypoints_m = parse_answer(text, mode).waypoints_m
    return np.stack([-waypoints_m[:, 1], waypoints_m[:, 0]], axis=1) if mode in MODES else waypoints_m


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    assert len(case["cases"])
    for i, answer in enumerate(case["cases"]):
        expected = np.array(answer["traj_lidar" if answer["mode"] in MODES else "traj"], float)
        came = trajectory(answer["text"], answer["mode"])
        assert came.shape == expected.shape, f"answer {i}: {came.shape}, not {expected.shape}"
        np.testing.assert_allclose(came, expected, rtol=1e-6, atol=DIGITS, err_msg=f"answer {i}: {answer['text']}")
