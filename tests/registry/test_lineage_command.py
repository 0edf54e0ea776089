"""Every name of a state leads to all the others, and the commands that are printed bring that state back."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from registered import GIT, commit, register_version

from stages.core.errors import DataError
from stages.core.params import Params
from stages.registry.lineage import Record, best, find, main, steps
from stages.registry.provenance import md5_of
from stages.registry.versions import Registry

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own
A, B = "a" * 40, "b" * 40
TRAIN = Record("run", "1" * 32, "train_pruner@recon", {"git.commit": A, "dvc.out.models/recon.md5": "c" * 32 + ".dir"})
SCORE = Record("run", "2" * 32, "score@recon", {"git.commit": A, "dvc.dep.models/recon.md5": "c" * 32 + ".dir"})
VERSION = Record("version", "m/1", "recon", {"git.commit": B, "git.dirty": "false", "train.run_id": "1" * 32})
RECORDS = [TRAIN, SCORE, VERSION]


@pytest.mark.parametrize("name", ["1" * 32, "m/1", "c" * 32, "c" * 32 + ".dir", B, B[:7]])
def test_each_name_of_a_version_finds_it_and_its_run(name: str) -> None:
    assert find(RECORDS, name) == [TRAIN, VERSION]
    assert best(find(RECORDS, name)) == VERSION


def test_a_commit_finds_all_that_ran_at_it_and_an_unknown_name_nothing() -> None:
    assert find(RECORDS, A[:8]) == [TRAIN, SCORE, VERSION]
    assert find(RECORDS, "f" * 32) == []
    assert find(RECORDS, "c" * 6) == []


def test_a_hash_that_nobody_made_finds_who_read_it() -> None:
    assert find([SCORE], "c" * 32) == [SCORE]


def test_a_state_with_edits_is_said_to_be_near_only() -> None:
    assert steps(A, [], "", "", exact=False)[0].startswith("# edits that no commit holds")
    assert steps(A, [], "", "", exact=True)[0] == f"git checkout {A}"


def said(name: str, params: Params, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(Namespace(name=name), params)
    return capsys.readouterr().out


def test_the_round_trip_from_every_kind_of_name(checkout: Params, capsys: pytest.CaptureFixture[str]) -> None:
    first = register_version(checkout, seed=0)
    second = register_version(checkout, seed=1)
    Registry("reconpruner").point("champion", "1")
    for version in (first, second):
        tags = version.tags
        linked = [
            tags["train.run_id"],
            tags["git.commit"],
            tags["dvc.out.models/recon.md5"],
            tags["prefect.flow_run_id"],
        ]
        other = (second if version is first else first).tags["train.run_id"]
        names = [version.number, f"models:/reconpruner/{version.number}", *linked, linked[1][:9], linked[2][:32]]
        names += ["champion", "models:/reconpruner@champion"] if version is first else ["candidate"]
        for name in names:
            text = said(name, checkout, capsys)
            assert all(one in text for one in [*linked, f"reconpruner/{version.number}"]), name
            assert f"git checkout {tags['git.commit']}" in text, name
            assert other not in text, name


def test_a_name_that_nobody_knows_is_refused(checkout: Params, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="neither sqlite"):
        said("f" * 32, checkout, capsys)


def test_the_printed_commands_bring_back_the_very_bytes(
    checkout: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """git and DVC are run for real, in a clone that shares the cache; packages are not installed."""
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q"], check=True)
    graph = (
        "stages:\n  train_pruner:\n    cmd: python train.py\n    deps: [requirements.lock]\n    outs: [models/recon]\n"
    )
    Path("dvc.yaml").write_text(graph)
    versions = []
    for seed in (1, 2):
        Path("dvc.lock").unlink()
        Path("models/recon/config.json").write_text(f'{{"seed": {seed}}}')
        subprocess.run([*dvc, "commit", "-q", "-f", "train_pruner"], check=True)
        commit(Path.cwd(), f"trained {seed}")
        versions.append(md5_of(Path("models/recon")))
    for md5 in versions:
        lines = said(md5, checkout, capsys).splitlines()
        clone = tmp_path / f"clone-{md5[:6]}"
        subprocess.run([*GIT, "clone", "-q", ".", clone], check=True)
        subprocess.run([*dvc, "cache", "dir", "--local", "-q", str(tmp_path / ".dvc/cache")], cwd=clone, check=True)
        (checkout_line,) = (line for line in lines if line.startswith("git checkout"))
        subprocess.run(checkout_line.split(), cwd=clone, check=True, capture_output=True)
        subprocess.run([*dvc, "checkout", "-q", "models/recon"], cwd=clone, check=True)
        assert md5_of(clone / "models/recon") == md5
