"""Drift: numbers one can check by eye, a checkout measured, numbers kept with a version and held against it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from registered import FRAMES, register_version

from stages.core import io
from stages.core.errors import DataError
from stages.core.params import Params
from stages.registry.drift import compared, entropy, keep, measured, since_champion
from stages.registry.versions import Registry

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]  # MLflow's own


def test_entropy_is_1_for_equal_scores_and_near_0_for_one_that_has_it_all() -> None:
    assert entropy(np.full(7, 3.0)) == pytest.approx(1.0)
    assert entropy(np.array([50.0, 0.0, 0.0])) < 1e-9
    assert entropy(np.array([1000.0, 1000.0, -1000.0])) == pytest.approx(np.log(2) / np.log(3))


@pytest.mark.parametrize(("now", "drifted"), [(40.0, False), (49.0, False), (51.0, True), (29.0, True), (np.nan, True)])
def test_more_less_and_no_number_are_drift(now: float, drifted: bool) -> None:
    assert compared("l2_cm", 40.0, now, 10.0)["drifted"] == ("YES" if drifted else "no")
    wanted = {"measure": "l2_cm", "then": "40", "now": "45", "moved": "5", "limit": "10", "drifted": "no"}
    assert compared("l2_cm", 40.0, 45.0, 10.0) == wanted


def seen(share: float) -> None:
    """Masks of the four scenes, and scores of their key frames."""
    rows = [{"scene": f"s{n}", "foreground_share": share} for n in range(4)]
    io.write_parquet(Path("data/masks/index.parquet"), pa.Table.from_pylist(rows))
    plans = [{"token": f"t{frame}", "scores": [0.0, 0.0]} for frame in range(FRAMES)]
    io.write_parquet(Path("results/plans/recon/25.parquet"), pa.Table.from_pylist(plans))


def test_a_checkout_is_measured_on_the_canary_scenes_alone(checkout: Params) -> None:
    seen(0.25)
    expected = {"foreground_share": 0.25, "saliency_entropy": 1.0, "l2_cm": 41.0}  # 40, 41 and 42 cm in turn
    assert measured("recon", checkout) == pytest.approx(expected)
    canary = checkout.model_copy(update={"drift": checkout.drift.model_copy(update={"canary": ["s0", "s9"]})})
    with pytest.raises(DataError, match="none of s9"):
        measured("recon", canary)


def test_numbers_kept_with_the_champion_show_what_has_drifted(checkout: Params) -> None:
    seen(0.25)
    registry = Registry(checkout.registry.name)
    assert since_champion(registry, "recon", checkout) is None
    version = register_version(checkout, 0)
    registry.point("champion", version.number)
    assert since_champion(registry, "recon", checkout) is None  # it was registered before its numbers were kept
    keep(registry, version.number, "recon", checkout)
    rows = since_champion(registry, "recon", checkout) or []
    assert [(row["moved"], row["drifted"]) for row in rows] == [("0", "no")] * 3
    seen(0.45)
    rows = since_champion(registry, "recon", checkout) or []
    assert [row["drifted"] for row in rows] == ["YES", "no", "no"]
