"""A turn that another ended: it stays the other's, and who lost it is told before the next write."""

import json
import logging
import time

import pytest

from stages.core.errors import GateError
from stages.registry.turn import turn
from stages.registry.versions import Registry

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own
NAME = "reconpruner.turn"


def others_turn(registry: Registry) -> None:
    """As a process on another machine does that took ours for dead."""
    registry.client.rename_registered_model(NAME, f"{NAME}.ended")
    registry.client.create_registered_model(NAME, {"holder": '{"owner": "machine-b:/work", "pid": 7, "turn": "b"}'})


def holder(registry: Registry) -> dict[str, object]:
    (found,) = registry.client.search_registered_models(f"name = '{NAME}'")
    held: dict[str, object] = json.loads(found.tags["holder"])
    return held


def test_the_turn_of_another_is_not_given_back_and_what_was_done_stands(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), turn(registry):
        others_turn(registry)
    assert holder(registry)["turn"] == "b"
    assert "another took us for dead" in caplog.text


def test_a_turn_that_is_gone_is_a_warning(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), turn(registry):
        registry.client.delete_registered_model(NAME)
    assert "another took us for dead" in caplog.text


def test_a_long_block_renews_its_turn_and_ends_when_it_was_taken(registry: Registry) -> None:
    with turn(registry, stale_s=0.04) as renew:
        first = holder(registry)
        time.sleep(0.02)
        renew()
        second = holder(registry)
        assert (second["turn"], second != first) == (first["turn"], True)
        others_turn(registry)
        time.sleep(0.02)
        with pytest.raises(GateError, match="machine-b"):
            renew()
