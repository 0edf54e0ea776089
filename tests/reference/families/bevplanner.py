"""The protocol bevplanner on its own samples and vehicles, or those of the omnidrive case beside it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.planning import bevplanner, omnidrive
from stages.planning.base import any_up_to
from tests.reference.families.omnidrive import INPUTS, truth_of

BESIDE = ("omnidrive", ("pred_ego", *INPUTS))  # whose inputs a case has that lacks these


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    official = case["box_and_point_col_by_horizon"]
    assert 0 < len(official) <= len(case["pred_ego"])
    for i, (box, point) in enumerate(np.moveaxis(official, 2, 1)):
        truth = replace(truth_of(case, i), valid=np.ones(6, bool))  # the metric class asks nobody
        prepared = bevplanner.with_vehicles(truth, *omnidrive.vehicles(truth.agents))
        assert bevplanner.judge(case["pred_ego"][i], prepared).collision.tolist() == box.tolist(), f"sample {i}"
        found = bevplanner.measure(case["pred_ego"][i], prepared)
        assert any_up_to(found.center_hits).tolist() == point.tolist(), f"sample {i}"
