"""Judging, promoting, declining, rolling back: aliases and tags after each step, and after a kill."""

import threading
from typing import Any

import pytest
from registered import register_version

from stages.core.errors import GateError, ParamsError
from stages.core.params import Params
from stages.registry import promotion
from stages.registry.promotion import AUTO, judge
from stages.registry.versions import Registry

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]  # MLflow's own


def pass_gate(registry: Registry, number: str) -> None:
    registry.tag(number, {"gate.passed": "true", "gate.champion": registry.aliases().get("champion", "none")})


def promote(registry: Registry, params: Params, number: str) -> bool:
    pass_gate(registry, number)
    return promotion.promote(registry, number, params, "ann", "better on curves", "flow-1")


def test_rollbacks_go_back_one_by_one_and_then_refuse(registry: Registry, checkout: Params) -> None:
    assert all(promote(registry, checkout, number) for number in ("1", "2", "3"))
    assert registry.aliases() == {"champion": "3", "previous": "2"}
    assert not promote(registry, checkout, "3")
    promotion.rollback(registry, "bob", "brakes late", champion="3")
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    tags = registry.version("3").tags
    given = (tags["promotion.by"], tags["promotion.reason"], tags["promotion.previous"], tags["rollback.reason"])
    assert given == ("ann", "better on curves", "2", "brakes late")
    with pytest.raises(GateError, match="no verdict"):  # the old one went with the rollback
        promotion.promote(registry, "3", checkout, "ann", "again")
    with pytest.raises(GateError, match="version 3 as champion"):
        promotion.rollback(registry, "bob", "brakes late", champion="3")
    promotion.rollback(registry, "bob", "also")
    assert registry.aliases() == {"champion": "1"}
    with pytest.raises(GateError, match="no previous"):
        promotion.rollback(registry, "bob", "and again")


def test_a_rollback_skips_what_an_earlier_one_took_away(registry: Registry, checkout: Params) -> None:
    for number in ("1", "2", "1"):
        promote(registry, checkout, number)
    promotion.rollback(registry, "bob", "brakes late")
    assert registry.aliases() == {"champion": "2", "candidate": "3"}
    promote(registry, checkout, "3")
    registry.tag("2", {"rollback.reason": "found later"})
    with pytest.raises(GateError, match="no previous"):
        promotion.rollback(registry, "bob", "also late")


@pytest.mark.parametrize(("call", "before"), [("tag", 0), ("point", 1)])
def test_a_promotion_killed_between_two_writes_is_completed_by_the_same_call(
    registry: Registry, checkout: Params, monkeypatch: pytest.MonkeyPatch, call: str, before: int
) -> None:
    promote(registry, checkout, "1")
    pass_gate(registry, "3")
    real, writes = getattr(registry, call), iter(range(before))

    def die(*words: Any) -> None:
        if next(writes, None) is None:
            raise KeyboardInterrupt
        real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(registry, call, die)
        with pytest.raises(KeyboardInterrupt):
            promotion.promote(registry, "3", checkout, "ann", "better")
    assert registry.aliases()["champion"] == "1"
    assert promotion.promote(registry, "3", checkout, "ann", "better")
    assert registry.aliases() == {"champion": "3", "previous": "1"}


def test_of_two_promotions_at_once_one_wins(registry: Registry, checkout: Params) -> None:
    promote(registry, checkout, "1")
    results: list[str] = []
    for number in ("2", "3"):
        pass_gate(registry, number)

    def one(number: str) -> None:
        try:
            promotion.promote(Registry("reconpruner"), number, checkout, "ann", "mine")
            results.append("won")
        except GateError:
            results.append("refused")

    threads = [threading.Thread(target=one, args=(number,)) for number in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused", "won"]


def test_a_decline_is_recorded_and_moves_nothing(registry: Registry) -> None:
    promotion.decline(registry, "3", "ann", "not yet")
    assert registry.version("3").tags["declined.reason"] == "not yet"
    assert registry.aliases() == {"candidate": "3"}


def changed(params: Params, **keys: object) -> Params:
    return params.model_copy(update={"registry": params.registry.model_copy(update=keys)})


def test_a_verdict_is_in_tags_and_in_the_description_and_judging_again_replaces_it(
    checkout: Params,
) -> None:
    register_version(checkout, seed=0)
    registry = Registry("reconpruner")
    for _ in range(2):
        _, verdict = judge(registry, "candidate", checkout)
    assert verdict.passed
    version = registry.version("candidate")
    assert (version.tags["gate.passed"], version.tags["gate.champion"]) == ("true", "none")
    assert version.description.count("## Gate") == 1
    assert "| 50 % pruned: l2_cm | at most 65 | 41 | yes |" in " ".join(version.description.split())
    # The limits are those of the version's commit, whatever stands in the checkout now
    fewer = {key: limits for key, limits in checkout.registry.limits.items() if key != "75"}
    assert judge(registry, "1", changed(checkout, limits=fewer))[1] == verdict
    registry.tag("1", {"git.commit": "0" * 40})  # of another repository
    with pytest.raises(ParamsError, match=r"registry.limits.*none for 75"):
        judge(registry, "1", changed(checkout, limits=fewer))


def test_a_worse_version_is_refused_against_the_champion_and_cannot_be_promoted(checkout: Params) -> None:
    registry = Registry("reconpruner")
    register_version(checkout, seed=0)
    judge(registry, "1", checkout)
    promotion.promote(registry, "1", checkout, "ann", "first")
    register_version(checkout, seed=1, l2_cm=47.0)
    version, verdict = judge(registry, "candidate", checkout)
    with pytest.raises(GateError, match=r"l2_cm - champion's.*and 2 more"):
        promotion.check_passed(registry, version, verdict)
    with pytest.raises(GateError, match="refused"):
        promotion.promote(registry, "2", checkout, "ann", "better")
    assert registry.aliases() == {"champion": "1", "candidate": "2"}


def test_a_promotion_without_a_verdict_is_refused(registry: Registry, checkout: Params) -> None:
    with pytest.raises(GateError, match="no verdict"):
        promotion.promote(registry, "1", checkout, "ann", "better")


def test_nobody_as_the_approver_is_refused_where_params_want_a_person(registry: Registry, checkout: Params) -> None:
    pass_gate(registry, "1")
    with pytest.raises(ParamsError, match="registry.auto"):
        promotion.promote(registry, "1", checkout, AUTO, "passed")
    assert promotion.promote(registry, "1", changed(checkout, auto=True), AUTO, "passed")
