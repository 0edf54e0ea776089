"""A verdict is kept on the version, and a promotion wants one that passed by the rules of now."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
from registered import register_version

from stages.core.errors import DataError, GateError, ParamsError
from stages.core.io import read_parquet, write_parquet
from stages.core.params import Params
from stages.registry import judge, promote
from stages.registry.versions import Registry

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


def judged(params: Params, version: str = "candidate") -> None:
    judge.main(Namespace(version=version, json="told.json"), params)


def approve(params: Params, version: str, by: str = "ann") -> None:
    promote.main(Namespace(version=version, by=by, reason="better", decline=False), params)


def changed(params: Params, **keys: object) -> Params:
    return params.model_copy(update={"registry": params.registry.model_copy(update=keys)})


def test_a_verdict_is_in_tags_in_the_description_and_in_a_file_and_judging_again_replaces_it(
    checkout: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register_version(checkout, seed=0)
    judged(checkout)
    judged(checkout)
    version = Registry("reconpruner").version("candidate")
    assert (version.tags["gate.passed"], version.tags["gate.champion"]) == ("true", "none")
    assert version.description.count("## Gate") == 1
    assert "| 50 % pruned: l2_cm | at most 65 | 41 | yes |" in version.description
    (kept,) = tmp_path.glob("mlartifacts/**/gate.json")
    assert json.loads(kept.read_text())["passed"] is True
    assert json.loads(Path("told.json").read_text())["passed"] is True
    assert "| speedup" not in capsys.readouterr().out.splitlines()[0]


def test_a_worse_version_is_refused_against_the_champion_and_cannot_be_promoted(checkout: Params) -> None:
    register_version(checkout, seed=0)
    judged(checkout)
    approve(checkout, "1")
    register_version(checkout, seed=1, l2_cm=47.0)
    with pytest.raises(GateError, match=r"l2_cm - champion's.*and 2 more") as refused:
        judged(checkout)
    assert refused.value.exit_code == 5
    assert Registry("reconpruner").version("2").tags["gate.champion"] == "1"
    with pytest.raises(GateError, match="refused"):
        approve(checkout, "2")
    assert Registry("reconpruner").aliases() == {"champion": "1", "candidate": "2"}


def test_a_promotion_without_a_verdict_or_with_one_by_other_rules_is_refused(checkout: Params) -> None:
    register_version(checkout, seed=0)
    with pytest.raises(GateError, match="no verdict"):
        approve(checkout, "1")
    judged(checkout)
    with pytest.raises(GateError, match="one by other rules"):
        approve(changed(checkout, samples=5), "1")
    approve(changed(checkout, auto=True), "1", by=promote.AUTO)
    assert Registry("reconpruner").aliases() == {"champion": "1"}


def test_nobody_as_the_approver_is_refused_where_params_want_a_person(checkout: Params) -> None:
    register_version(checkout, seed=0)
    judged(checkout)
    with pytest.raises(ParamsError, match="registry.auto"):
        approve(checkout, "1", by=promote.AUTO)


def test_a_prune_ratio_without_limits_is_named(checkout: Params) -> None:
    register_version(checkout, seed=0)
    fewer = {key: limits for key, limits in checkout.registry.limits.items() if key != "75"}
    with pytest.raises(ParamsError, match=r"registry.limits.*got none for 75"):
        judged(changed(checkout, limits=fewer))


def test_a_name_that_is_no_version_is_refused_with_what_there_is(checkout: Params) -> None:
    register_version(checkout, seed=0)
    with pytest.raises(DataError, match="candidate = 1"):
        judged(checkout, "challenger")


@pytest.mark.parametrize("name", ["scores.parquet", "unpruned.parquet", "efficiency.json", "latency.json"])
def test_evidence_that_changed_in_the_store_is_refused(name: str, checkout: Params, tmp_path: Path) -> None:
    register_version(checkout, seed=0)
    (stored,) = tmp_path.glob(f"mlartifacts/**/evaluation/{name}")
    made = {"scores.parquet": "scores/recon.parquet", "unpruned.parquet": "scores/none.parquet"}
    if name in made:  # whole, of another run with the same totals
        table = read_parquet(Path("results") / made[name], "")
        write_parquet(stored, table.take(list(range(len(table)))[::-1]))
    else:
        stored.write_text(stored.read_text().replace("1.5", "1.9"))
    with pytest.raises(DataError, match="as registered"):
        judged(checkout)
    assert "gate.passed" not in Registry("reconpruner").version("1").tags
