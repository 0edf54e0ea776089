"""The latency budget changes a sentence of the report: no milliseconds are measured again for it."""

import pytest
from closure import graph

from stages.core.params import ProfileEfficiency


@pytest.mark.parametrize("stage", ["profile_efficiency", "profile_trained"])
def test_profiles_depend_on_every_option_but_the_budget(stage: str) -> None:
    options = {key.partition(".")[2] for key in graph()[stage]["params"] if key.startswith("profile_efficiency")}
    assert options == set(ProfileEfficiency.model_fields) - {"budget_ms"}


def test_the_report_depends_on_the_budget() -> None:
    assert "profile_efficiency.budget_ms" in graph()["make_report"]["params"]
