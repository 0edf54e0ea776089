"""Every name of a state leads to all the others, and to commands that restore it."""

import json
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
from registered import commit, make_checkout, register_version

from stages.core.errors import DataError
from stages.core.params import Params
from stages.registry.lineage import Record, best, find, main
from stages.registry.versions import Registry

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]  # MLflow's own
A, B = "a" * 40, "b" * 40
TRAIN = Record("run", "1" * 32, "train_pruner@recon", {"git.commit": A})
SCORE = Record("run", "2" * 32, "score_plans", {"git.commit": A})
TAGS = {"git.commit": B, "git.dirty": "false", "train.run_id": "1" * 32, "dvc.md5": "c" * 32 + ".dir"}
VERSION = Record("version", "m/1", "recon", TAGS)
RECORDS = [TRAIN, SCORE, VERSION]


@pytest.mark.parametrize("name", ["1" * 32, "m/1", "c" * 32, "c" * 32 + ".dir", B, B[:7]])
def test_each_name_of_a_version_finds_it_and_its_run(name: str) -> None:
    assert find(RECORDS, name) == [TRAIN, VERSION]
    assert best(find(RECORDS, name)) == VERSION


def test_a_commit_finds_all_that_ran_at_it_and_an_unknown_name_nothing() -> None:
    assert find(RECORDS, A[:8]) == [TRAIN, SCORE, VERSION]
    assert find(RECORDS, "f" * 32) == []
    assert find(RECORDS, "c" * 6) == []


def printed(name: str, params: Params, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(Namespace(name=name), params)
    return capsys.readouterr().out


def test_the_round_trip_from_every_kind_of_name(checkout: Params, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (register_version(checkout, seed=seed) for seed in (0, 1))
    Registry("reconpruner").point("champion", "1")
    for version, other in ((first, second), (second, first)):
        tags = version.tags
        linked = [tags[key] for key in ("train.run_id", "git.commit", "dvc.md5", "prefect.flow_run_id")]
        names = [version.number, f"models:/reconpruner/{version.number}", *linked, linked[1][:9]]
        names += ["champion", "models:/reconpruner@champion"] if version is first else ["candidate"]
        for name in names:
            text = printed(name, checkout, capsys)
            assert all(one in text for one in [*linked, f"reconpruner/{version.number}"]), name
            assert f"git checkout {tags['git.commit']}" in text, name
            assert "dvc checkout models/recon" in text
            assert other.tags["train.run_id"] not in text, name


def test_an_md5_that_only_git_knows_finds_the_first_commit_that_holds_it(
    checkout: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path.cwd()
    make_checkout(root, seed=7)
    md5 = json.loads((root / "dvc.lock").read_text())["stages"]["score_plans"]["outs"][0]["md5"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    commit(root, "later")
    assert f"git checkout {head}" in printed(md5, checkout, capsys)


def test_a_name_that_nobody_knows_is_refused(checkout: Params, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="neither sqlite"):
        printed("f" * 32, checkout, capsys)
