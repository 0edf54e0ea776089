"""Drift: numbers one can check by eye, a checkout measured, numbers kept with a version and held against it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from registered import FRAMES, register_version

from stages.core import io
from stages.core.errors import DataError
from stages.core.params import Params
from stages.registry.drift import Means, entropy, keep, means, measured, shifts, since_champion
from stages.registry.versions import Registry

LIMITS = Means(foreground_share=0.05, saliency_entropy=0.05, l2_cm=10.0)
pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


def test_entropy_is_1_for_equal_scores_and_near_0_for_one_that_has_it_all() -> None:
    assert entropy(np.full(7, 3.0)) == pytest.approx(1.0)
    assert entropy(np.array([50.0, 0.0, 0.0])) < 1e-9
    assert entropy(np.array([1000.0, 1000.0, -1000.0])) == pytest.approx(np.log(2) / np.log(3))


@pytest.mark.parametrize("scores", [[1.0], [0.0, np.nan], [0.0, np.inf]])
def test_entropy_of_scores_without_one_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        entropy(np.array(scores))


def test_means_and_what_they_moved() -> None:
    then, now = means([0.2, 0.4], [0.8], [30.0, 50.0]), means([0.3, 0.5], [0.82], [45.0])
    rows = {shift.measure: shift for shift in shifts(then, now, LIMITS)}
    assert rows["foreground_share"].moved == pytest.approx(0.1)
    assert [shift.drifted for shift in rows.values()] == [True, False, False]
    wanted = {"measure": "l2_cm", "then": "40", "now": "45", "moved": "5", "limit": "10", "drifted": "no"}
    assert rows["l2_cm"].row() == wanted


def test_less_is_drift_as_well_as_more_and_so_is_no_number() -> None:
    then = Means(0.3, 0.8, 40.0)
    assert [shift.drifted for shift in shifts(then, Means(0.2, 0.8, 40.0), LIMITS)] == [True, False, False]
    assert [shift.drifted for shift in shifts(then, Means(0.3, 0.8, float("nan")), LIMITS)] == [False, False, True]


def test_nothing_on_the_canary_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="no saliency_entropy"):
        means([0.2], [], [30.0])


def seen(share: float) -> None:
    """Masks of the four scenes, and scores of their key frames."""
    rows = [{"scene": f"s{n}", "foreground_share": share} for n in range(4)]
    io.write_parquet(Path("data/masks/index.parquet"), pa.Table.from_pylist(rows))
    plans = [{"token": f"t{frame}", "scores": [0.0, 0.0]} for frame in range(FRAMES)]
    io.write_parquet(Path("results/plans/recon/25.parquet"), pa.Table.from_pylist(plans))


def test_a_checkout_is_measured_on_the_canary_scenes_alone(checkout: Params) -> None:
    seen(0.25)
    found = measured("recon", checkout)
    assert (found.foreground_share, found.saliency_entropy) == (0.25, 1.0)
    assert found.l2_cm == pytest.approx(41.0)  # 40, 41 and 42 cm in turn
    canary = checkout.model_copy(update={"drift": checkout.drift.model_copy(update={"canary": ["s0", "s9"]})})
    with pytest.raises(DataError, match="no s9"):
        measured("recon", canary)


def test_numbers_kept_with_the_champion_show_what_has_drifted(checkout: Params) -> None:
    seen(0.25)
    registry = Registry(checkout.registry.name)
    assert since_champion(registry, "recon", checkout) is None
    version = register_version(checkout, 0)
    registry.point("champion", version.number)
    with pytest.raises(DataError, match="drift.json"):
        since_champion(registry, "recon", checkout)
    keep(registry, version.number, "recon", checkout)
    assert not any(shift.drifted for shift in since_champion(registry, "recon", checkout) or [])
    seen(0.45)
    rows = [shift.row() for shift in since_champion(registry, "recon", checkout) or []]
    assert [row["drifted"] for row in rows] == ["YES", "no", "no"]
