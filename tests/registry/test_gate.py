"""The gate on tables that one can check by eye: 8 frames of 4 scenes, all errors equal but for what a test changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.params import Averages, Ratio, read_params
from stages.registry.gate import CLEAN, LINEAGE, Evidence, Samples, Verdict, judge, shared_samples

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
LIMITS = {
    "samples": 8,
    "unparsed_pct": 10.0,
    "limits": {"50": Ratio(l2_cm=50.0, collision_pct=5.0, intersection_pct=5.0, flops_ratio=1.3, speedup=1.0)},
    "margins": Averages(l2_cm=2.0, collision_pct=1.0, intersection_pct=1.0),
}
RULES = PARAMS.model_copy(
    update={
        "grid": PARAMS.grid.model_copy(update={"percents": [50]}),
        "registry": PARAMS.registry.model_copy(update=LIMITS),
        "score_plans": PARAMS.score_plans.model_copy(update={"resamples": 200, "seed": 0}),
    }
)
TAGS = dict.fromkeys(LINEAGE, "x") | CLEAN


def samples(l2_cm: float = 40.0, **changes: Any) -> Samples:
    n = 8
    metrics = {"l2_cm": np.full(n, l2_cm), "collision_pct": np.zeros(n), "intersection_pct": np.zeros(n)}
    tokens, scenes = tuple(f"t{i}" for i in range(n)), tuple(f"s{i % 4}" for i in range(n))
    return replace(Samples(tokens, scenes, metrics, np.arange(n, dtype=float), 0), **changes)


def evidence(l2_cm: float = 40.0, **changes: Any) -> Evidence:
    made = Evidence("2", "encoder-a", "omnidrive", TAGS, {50: samples(l2_cm)}, {50: 1.35}, {50: 1.2})
    return replace(made, **changes)


def refused(verdict: Verdict) -> list[str]:
    return [check.rule for check in verdict.refused]


def test_a_good_first_version_passes_without_a_champion() -> None:
    verdict = judge(evidence(), None, RULES)
    assert verdict.passed
    assert verdict.champion == ""
    assert {"rule": "50 % pruned: l2_cm", "expected": "at most 50", "got": "40", "passed": "yes"} in verdict.rows()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"samples": {50: samples(50.1)}}, "50 % pruned: l2_cm"),
        ({"samples": {50: samples(float("nan"))}}, "50 % pruned: l2_cm"),
        ({"samples": {50: samples(unparsed=1)}}, "50 % pruned: unparsed, %"),
        ({"flops_ratio": {50: 1.29}}, "50 % pruned: flops_ratio"),
        ({"flops_ratio": {25: 9.0}}, "50 % pruned: flops_ratio"),
        ({"speedup": {}}, "50 % pruned: speedup"),
        ({"speedup": {50: float("nan")}}, "50 % pruned: speedup"),
        ({"tags": TAGS | {"git.dirty": "true"}}, "lineage git.dirty"),
        ({"tags": TAGS | {"dvc.status": "changed: score_plans"}}, "lineage dvc.status"),
        ({"tags": {key: TAGS[key] for key in TAGS if key != "train.run_id"}}, "lineage complete"),
        ({"tags": TAGS | {"dvc.md5": ""}}, "lineage complete"),
        ({"tags": TAGS | {"rollback.reason": "it braked"}}, "not rolled back before"),
    ],
)
def test_each_rule_refuses_by_its_own_name_and_no_other(changes: dict[str, Any], rule: str) -> None:
    assert refused(judge(evidence(**changes), None, RULES)) == [rule]


def test_as_good_as_the_champion_passes_and_worse_by_more_than_the_margin_does_not() -> None:
    champion = evidence(40.0, version="1")
    assert judge(evidence(41.9), champion, RULES).passed
    verdict = judge(evidence(42.1), champion, RULES)
    assert refused(verdict) == ["50 % pruned: l2_cm - champion's, upper end of 95 %"]
    assert verdict.refused[0].got == "+2.100 (mean +2.100, from +2.100)"
    assert (verdict.candidate, verdict.champion) == ("2", "1")


def test_a_difference_that_the_frames_do_not_show_is_refused_when_it_may_be_over_the_margin() -> None:
    """Mean +0.5 cm is within the margin of 2; two scenes of +9 and two of -8 leave an upper end of 9."""
    errors = np.array([49.0, 49.0, 32.0, 32.0] * 2)
    mixed = evidence(samples={50: samples(metrics={**samples().metrics, "l2_cm": errors})})
    (check,) = judge(mixed, evidence(version="1"), RULES).refused
    assert check.got == "+9.000 (mean +0.500, from -8.000)"


def test_only_the_same_frames_with_the_same_truth_are_compared() -> None:
    champion = evidence(version="1")
    other_truth = np.arange(8.0) + np.array([0, 0, 0, 0, 0, 0, 0, 1.0])
    verdict = judge(evidence(samples={50: samples(unpruned_cm=other_truth)}), champion, RULES)
    assert refused(verdict) == ["50 % pruned: same key frames as the champion"]
    assert verdict.refused[0].got == "7, 8 of the champion"
    assert shared_samples(samples(unpruned_cm=other_truth), samples()) == [(i, i) for i in range(7)]


def test_no_shared_frame_is_a_refusal_and_no_fault() -> None:
    champion = evidence(version="1", samples={50: samples(tokens=tuple("abcdefgh"))})
    assert refused(judge(evidence(), champion, RULES)) == ["50 % pruned: same key frames as the champion"]
    champion = evidence(version="1", samples={})
    assert refused(judge(evidence(), champion, RULES)) == ["50 % pruned: same key frames as the champion"]


def test_another_encoder_or_protocol_than_the_champions_is_refused() -> None:
    verdict = judge(evidence(encoder="encoder-b", protocol="uniad"), evidence(version="1"), RULES)
    assert refused(verdict) == ["same encoder as the champion", "same protocol as the champion"]
