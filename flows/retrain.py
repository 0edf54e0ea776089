"""Retrain on new scenes in a clone: masks, training, scores; push; a branch with its dvc.lock; a candidate.

python -m flows.retrain                  # if anything changed since the commit's dvc.lock
python -m flows.retrain --when drift     # if the champion's numbers on the canary scenes have drifted, too
"""

import argparse
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.common import artifact_key, flow_run_id, run_flow, show, version_page
from flows.dvc import DVC, Dvc
from flows.reproduce import reproduce, reproduce_stage
from stages.core.errors import DataError
from stages.core.io import alone
from stages.core.params import read_params
from stages.registry import drift
from stages.registry.register import register
from stages.registry.versions import Registry

REPORT = "make_report"  # everything a version is judged by lies before it; on real data the drawn world does not
AUTHOR = ["-c", "user.name=FastDrive retrain", "-c", "user.email=retrain@localhost"]
MADE = ("dvc.lock", "metrics", "models/driver")  # tracked files that DVC writes: a killed retrain leaves them half made


@flow(name="retrain", flow_run_name="retrain {pruner} when {when}")
def retrain(when: Literal["changed", "drift"] = "changed", pruner: str = "recon") -> str:
    """Train the commit of the checkout on the data of now, and register the result as candidate.

    Raises DataError for a tree that is not clean, DvcError when a stage fails.

    Args:
        when: Train if code, params or data changed; or only if the champion's numbers drifted, too.
        pruner: The trained row that becomes a candidate.
    """
    root, log = Path.cwd(), get_run_logger()
    # Runs and versions belong into the checkout's store, not into the clone's
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    with workspace(root) as clone, chdir(clone):
        stale = [stage for stage, changed in Dvc(clone, log.info).plan(REPORT).items() if changed]
        if not stale:
            return "nothing changed"
        log.info("stale: %s", ", ".join(stale))
        if when == "drift" and not drifted(clone, pruner):
            return "changed, but no drift: nothing was trained"
        reproduce(REPORT)
        push(clone)
        branch = publish(clone, pruner, stale)
        number = register_candidate(pruner)
        return f"version {number} is candidate; its dvc.lock is on branch {branch}"


def drifted(clone: Path, pruner: str) -> bool:
    """Score the existing pruner on the data of now, without training, and compare. True if there is none yet."""
    if not (clone / "models" / pruner).is_dir():
        return True
    for stage, stale in Dvc(clone).plan("score_plans").items():
        if stale and not stage.startswith("train_pruner"):
            reproduce_stage.with_options(task_run_name=f"canary: {stage}")(clone, stage, single=True)
    return check_drift(pruner)


@task(cache_policy=NO_CACHE)
def check_drift(pruner: str) -> bool:
    """The comparison with the champion, shown as a table; True if there is no champion with numbers."""
    params = read_params()
    rows = drift.since_champion(Registry(params.registry.name), pruner, params)
    if rows:
        create_table_artifact(rows, artifact_key("drift", pruner), f"drift of {pruner} since the champion")
    else:
        get_run_logger().info("no champion with drift numbers: training as if it had drifted")
    return rows is None or any(row["drifted"] == "YES" for row in rows)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=30)
def push(clone: Path) -> None:
    """Outputs to the DVC remote; tried again, because networks fail."""
    output(clone, *DVC, "push")


@task(cache_policy=NO_CACHE)
def publish(clone: Path, pruner: str, stages: list[str]) -> str:
    """Return the branch `retrain/<date>` of the checkout with dvc.lock and metrics: a new one if none is equal."""
    git(clone, "add", "--all")
    git(clone, "fetch", "--quiet", "--prune", "origin", "+refs/heads/retrain/*:refs/remotes/origin/retrain/*")
    known = git(clone, "for-each-ref", "--format=%(refname:lstrip=3) %(tree)", "refs/remotes/origin/retrain").split()
    trees = dict(zip(known[::2], known[1::2], strict=True))
    tree = git(clone, "write-tree").strip()
    for branch in (name for name in trees if trees[name] == tree):  # a schedule does not pile up branches
        git(clone, "checkout", "--quiet", "--force", "--detach", f"origin/{branch}")
        return branch
    date = datetime.now(UTC).date().isoformat()
    names = (f"retrain/{date}{number}" for number in ("", *(f".{n}" for n in range(2, 1000))))
    branch = next(name for name in names if name not in trees)
    message = f"Retrain {pruner}\n\nMade: {', '.join(stages)}.\nPrefect run: {flow_run_id() or 'none'}."
    git(clone, "checkout", "--quiet", "-B", branch)
    git(clone, *AUTHOR, "commit", "--quiet", "--allow-empty", "--message", message)
    git(clone, "push", "--quiet", "origin", branch)
    return branch


@flow(name="register", flow_run_name="register {pruner}")
def register_pruner(pruner: str = "recon") -> str:
    """Make a trained pruner of this checkout the candidate.

    Args:
        pruner: A trained row, as `recon`.
    """
    return f"version {register_candidate(pruner)} is candidate"


@task(cache_policy=NO_CACHE)
def register_candidate(pruner: str) -> str:
    """The version's number; the numbers for the next drift check are stored with it."""
    params = read_params()
    registry = Registry(params.registry.name)
    version, new = register(registry, pruner, params)
    drift.keep(registry, version.number, pruner, params)
    get_run_logger().info("%s is %sversion %s of %s", pruner, "" if new else "already ", version.number, registry.name)
    page = version_page(registry.name, version.number)
    show(page, "candidate", f"version {version.number} of {registry.name} in MLflow")
    resource = {"prefect.resource.id": f"fastdrive.version.{registry.name}.{version.number}"}
    if new:
        emit_event("fastdrive.candidate.registered", resource)  # infra/automations.yaml starts a promotion
    return version.number


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """The clone of `root` in its .local/retrain: clean, at the commit of the checkout, sharing its DVC cache.

    Raises DataError when `root` or the clone holds uncommitted files, MachineError when another retrain works there.
    """
    clone = root / ".local/retrain"
    with alone(clone.parent / "retrain.lock", f"retrain in {clone}", patience_s=0.0):
        check_clean(root)
        if not (clone / ".git").is_dir():
            git(root, "clone", "--quiet", str(root), str(clone))
        if made := git(clone, "ls-tree", "--name-only", "HEAD", *MADE).split():
            git(clone, "checkout", "--quiet", "--force", "HEAD", "--", *made)
        git(clone, "clean", "-fdq", "--", *MADE)
        check_clean(clone)
        git(clone, "fetch", "--quiet", "origin", "HEAD")
        git(clone, "checkout", "--quiet", "--detach", "FETCH_HEAD")
        share_cache(root, clone)
        for name in ("runs/masks", "runs/tokens"):  # shared, so that already the first retrain works on new scenes only
            (root / name).mkdir(parents=True, exist_ok=True)
            if not (clone / name).exists():
                (clone / name).parent.mkdir(exist_ok=True)
                (clone / name).symlink_to(root / name)
        yield clone


def check_clean(tree: Path) -> None:
    """Raises DataError naming a file: what is trained must be what a commit holds."""
    if changed := git(tree, "status", "--porcelain").splitlines():
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise DataError(
            expected=f"a clean tree in {tree}",
            got=f"{changed[0].strip()!r}{more}",
            fix=f"git -C {tree} stash -u, or commit it",
        )


def share_cache(root: Path, clone: Path) -> None:
    """Copy DVC's local settings, share one cache, pull what there is; where no remote is set, make one in .local."""
    if not any(line.startswith("core.remote=") for line in output(root, *DVC, "config", "--list").splitlines()):
        place = str(root / ".local/dvc-remote")
        output(root, *DVC, "remote", "add", "--local", "--default", "local", place)
        get_run_logger().warning(
            "no default DVC remote: %s is one now; `dvc remote add -d NAME URL` names another", place
        )
    local = root / ".dvc/config.local"
    if local.is_file():
        shutil.copy(local, clone / ".dvc/config.local")
    output(clone, *DVC, "cache", "dir", "--local", output(root, *DVC, "cache", "dir").strip())
    output(clone, *DVC, "pull", "--allow-missing")


def git(tree: Path, *words: str) -> str:
    """Output of git. Raises DataError."""
    return output(tree, "git", *words)


def output(tree: Path, *command: str) -> str:
    """Output of a command. Raises DataError with what it says."""
    env = Dvc(tree).env | {"GIT_TERMINAL_PROMPT": "0"}
    answer = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
    if answer.returncode:
        got = (answer.stderr.strip() or answer.stdout.strip())[-1500:]
        fix = "repair what it names, as `dvc remote list` and AWS_ACCESS_KEY_ID for a remote; then run it again"
        raise DataError(expected=f"`{' '.join(command[:6])}` in {tree} to succeed", got=got, fix=fix)
    return answer.stdout


def main() -> None:
    """The command line; ends with 3 for a tree that is not clean."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--when", choices=["changed", "drift"], default="changed")
    parser.add_argument("--pruner", default="recon", help="one of grid.trained in params.yaml")
    words = parser.parse_args()
    run_flow(lambda: retrain(words.when, words.pruner))


if __name__ == "__main__":
    main()
