"""The report's line on the champion, from a registry that is there."""

from pathlib import Path

import pytest
from registered import register_version

from stages.core.params import Params
from stages.registry.versions import Registry
from stages.report.champion import champion_line

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


def test_the_results_at_hand_are_held_against_the_champion_when_there_is_one(checkout: Params) -> None:
    none = champion_line(checkout, Path("results"))
    assert none == "recon keeps all 21 limits of the gate; there is no champion yet"
    register_version(checkout, seed=0)
    Registry("reconpruner").point("champion", "1")
    assert "version 1 all 14 comparisons pass" in (champion_line(checkout, Path("results")) or "")
    register_version(checkout, seed=1, l2_cm=47.0)
    assert "3 of 14 comparisons fail, first 25 % pruned: l2_cm" in (champion_line(checkout, Path("results")) or "")
