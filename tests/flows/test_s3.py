"""A DVC remote on S3: what one checkout pushes another one pulls, a retrain too; who has no key is told, and no key is.

The store is moto's, on loopback. A command of DVC takes seconds, so that each test asks several things.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3 import BUCKET, Store, no_login, s3

from flows import workspace as trees
from flows.dvc import Dvc
from flows.retrain import push

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
SECRET = "swordfish" * 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with s3(tmp_path_factory.mktemp("s3") / "log") as store:
        yield store


@pytest.fixture(scope="module")
def checkout(store: Store, reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All made, pushed with its run cache, and committed with the remote's address."""
    root = shutil.copytree(reproduced, tmp_path_factory.mktemp("pushed") / "checkout")
    dvc(root, store.login, "remote", "add", "-q", "-d", "store", f"s3://{BUCKET}/fastdrive")
    dvc(root, store.login, "remote", "modify", "store", "endpointurl", store.address)
    subprocess.run([*GIT, "add", "."], cwd=root, check=True)
    subprocess.run([*GIT, "commit", "-qm", "made"], cwd=root, check=True)
    dvc(root, store.login, "push", "--run-cache")
    return root


def dvc(root: Path, login: dict[str, str], *words: str, code: int = 0) -> str:
    """What DVC said."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | login
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    ended = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, env=env, capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    assert ended.returncode == code or code < 0 < ended.returncode, said[-2000:]
    return said


def clone(checkout: Path, tmp_path: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(checkout), str(tmp_path / "clone")], check=True)
    return tmp_path / "clone"


def test_a_fresh_clone_pulls_what_was_pushed_and_runs_no_stage(checkout: Path, store: Store, tmp_path: Path) -> None:
    assert len([name for name in store.names() if "/files/md5/" in name]) == 4
    assert len([name for name in store.names() if "/runs/" in name]) == 4
    fresh = clone(checkout, tmp_path)
    dvc(fresh, store.login, "pull", "--run-cache")
    made = sorted(path.name for path in (checkout / "out").iterdir())
    assert [(fresh / "out" / name).read_bytes() for name in made] == [
        (checkout / "out" / name).read_bytes() for name in made
    ]
    assert "Data and pipelines are up to date" in dvc(fresh, store.login, "repro")
    (fresh / "dvc.lock").unlink()  # then the run cache alone knows; metrics that DVC does not cache are not in it
    assert dvc(fresh, store.login, "repro").count("is cached - skipping run") == 3


@pytest.mark.parametrize("wrong", ["secret", "none"])
def test_who_may_not_is_told_why_and_no_key_is_said_or_kept(
    wrong: str, checkout: Path, store: Store, tmp_path: Path
) -> None:
    fresh = clone(checkout, tmp_path)
    login = store.login | {"AWS_SECRET_ACCESS_KEY": SECRET} if wrong == "secret" else no_login(tmp_path)
    said = dvc(fresh, login, "pull", code=-1)
    assert ("Forbidden" if wrong == "secret" else "Unable to locate credentials") in said
    assert not list(fresh.glob("out/*"))
    kept = "".join(path.read_text(errors="replace") for path in (fresh / ".dvc").rglob("*") if path.is_file())
    for hidden in (SECRET, store.login["AWS_SECRET_ACCESS_KEY"]):
        assert hidden not in said + kept


def test_a_retrain_pushes_what_it_made_and_another_clone_pulls_it_from_its_branch(
    checkout: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.login.items():
        monkeypatch.setenv(name, value)
    root = shutil.copytree(checkout, tmp_path / "root")
    (root / "params.yaml").write_text("frames: 4\npruners: [none, recon]\n")
    subprocess.run([*GIT, "commit", "-qam", "other frames"], cwd=root, check=True)
    with trees.workspace(root) as work:
        assert all(Dvc(work).plan().values())
        Dvc(work).reproduce("report")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        with pytest.raises(
            trees.WorkspaceError, match=r"wanted `dvc push` .* signature .* next: .*AWS_ACCESS_KEY_ID"
        ) as no:
            push.fn(work)
        assert SECRET not in str(no.value)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.login["AWS_SECRET_ACCESS_KEY"])
        before = set(store.names())
        push.fn(work)
        assert len(set(store.names()) - before) == 4
        branch = trees.commit(work, "Retrain")
        made = (work / "out/report.txt").read_bytes()
    fresh = clone(root, tmp_path)
    subprocess.run([*GIT, "checkout", "-q", branch], cwd=fresh, check=True)
    dvc(fresh, store.login, "pull")
    assert (fresh / "out/report.txt").read_bytes() == made


def test_the_job_of_compose_makes_buckets_that_are_not_there_and_says_why_it_cannot(store: Store) -> None:
    command = [sys.executable, str(ROOT / "infra/docker/make_buckets.py"), "mlflow", BUCKET]
    env = os.environ | store.login | {"AWS_ENDPOINT_URL_S3": store.address}
    said = [subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert said == [f"mlflow made\n{BUCKET} was there\n", f"mlflow was there\n{BUCKET} was there\n"]
    refused = subprocess.run(command, env=env | {"AWS_SECRET_ACCESS_KEY": SECRET}, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "wanted buckets" in refused.stderr
    assert SECRET not in refused.stderr
