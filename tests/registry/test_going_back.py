"""What was rolled back does not come back: not on its old verdict, not by a second rollback."""

from argparse import Namespace

import pytest

from stages.core.errors import GateError
from stages.core.params import Params
from stages.registry import moves
from stages.registry import promote as command
from stages.registry.gate import Check, Verdict
from stages.registry.judge import asked, keep
from stages.registry.versions import Registry

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


def promote(registry: Registry, number: str, champion: str) -> None:
    moves.promote(registry, number, champion, "ann", "better on curves")


def pass_gate(registry: Registry, params: Params, number: str, champion: str) -> None:
    verdict = {"champion": champion, "rules": asked(params), "passed": "true"}
    registry.tag({f"gate.{key}": value for key, value in verdict.items()}, number)


def approve(params: Params, number: str) -> None:
    command.main(Namespace(version=number, by="ann", reason="again", decline=False), params)


def test_a_version_that_was_rolled_back_is_not_promoted_on_its_old_verdict(
    registry: Registry, checkout: Params
) -> None:
    promote(registry, "1", "")
    pass_gate(registry, checkout, "2", "1")
    approve(checkout, "2")
    moves.rollback(registry, "bob", "brakes late")
    assert "gate.passed" not in registry.version("2").tags
    with pytest.raises(GateError, match="no verdict"):
        approve(checkout, "2")
    pass_gate(registry, checkout, "2", "1")  # as a judge would that began before the rollback
    with pytest.raises(GateError, match="never rolled back; got version 2, rolled back: brakes late"):
        approve(checkout, "2")
    assert registry.aliases()["champion"] == "1"
    registry.tag({moves.GONE: None}, "2")
    approve(checkout, "2")
    assert registry.aliases()["champion"] == "2"


def test_a_second_rollback_does_not_bring_back_what_the_first_took_away(registry: Registry) -> None:
    for number, before in (("1", ""), ("2", "1"), ("1", "2")):
        promote(registry, number, before)
    moves.rollback(registry, "bob", "brakes late")
    assert (registry.aliases()["champion"], registry.aliases().get("previous")) == ("2", None)
    with pytest.raises(GateError, match="no previous"):
        moves.rollback(registry, "bob", "also late")
    assert registry.aliases()["champion"] == "2"


def test_a_rollback_skips_a_version_that_was_rolled_back_earlier(registry: Registry) -> None:
    for number, before in (("1", ""), ("2", "1"), ("3", "2")):
        promote(registry, number, before)
    registry.tag({moves.GONE: "found later"}, "2")
    moves.rollback(registry, "bob", "brakes late")
    assert registry.aliases()["champion"] == "1"


def test_a_judge_killed_before_its_last_write_leaves_no_verdict(
    registry: Registry, checkout: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(registry, "1", "")
    pass_gate(registry, checkout, "2", "3")
    real = registry.client.set_model_version_tag

    def die_at_passed(name: str, number: str, key: str, value: str) -> None:
        if key == "gate.passed":
            raise KeyboardInterrupt
        real(name, number, key, value)

    monkeypatch.setattr(registry.client, "set_model_version_tag", die_at_passed, raising=False)
    monkeypatch.setattr(registry, "attach", lambda _version, _file: None)
    worse = Verdict("2", "1", (Check("l2_cm", "at most 1", "2", False),))
    with pytest.raises(KeyboardInterrupt):
        keep(registry, registry.version("2"), worse, asked(checkout))
    assert registry.version("2").tags["gate.champion"] == "1"
    with pytest.raises(GateError, match="no verdict"):
        approve(checkout, "2")
