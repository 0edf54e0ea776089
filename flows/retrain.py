"""Make anew what new scenes call for, in a clone of its own: masks, training, plans, scores, costs; push; a branch with
its dvc.lock; a candidate in the registry.

python -m flows.retrain                  # when anything changed since the commit's dvc.lock
python -m flows.retrain --when drift     # when, besides, what the champion sees on the canary scenes has drifted
"""

import argparse
import os
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import workspace as trees
from flows.dvc import Dvc, DvcError
from flows.links import key, show, version_page
from flows.outlook import look_ahead
from flows.reproduce import reproduce, reproduce_stage
from flows.server import require_server
from flows.stage import StageError, ask, call

REPORT = "make_report"  # all that a version is judged by lies before it; on real data the drawn world does not


@flow(name="retrain", flow_run_name="retrain {pruner} when {when}")
def retrain(when: Literal["changed", "drift"] = "changed", pruner: str = "recon") -> str:
    """The answer says what came of it. What is trained is the checkout's commit, on the data that lies there now.

    Raises WorkspaceError for a tree that is not clean or has no DVC remote, StageError (code 3) when this machine has
    no room for it, DvcError and StageError as stages end.
    """
    root, log = Path.cwd(), get_run_logger()
    # A run or version recorded in the clone's own store would be seen by nobody
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    with trees.workspace(root) as clone, chdir(clone):
        stale = [stage for stage, asked in Dvc(clone, log.info).plan(REPORT).items() if asked]
        if not stale:
            return "nothing changed"
        log.info("to be made: %s", ", ".join(stale))
        if when == "drift" and not drifted(clone, pruner):
            return "changed, but no drift: nothing was trained"
        look_ahead(strict=True, target=REPORT)
        reproduce(REPORT)
        push(clone)
        branch = publish(clone, pruner, stale)
        number = register(pruner)
        return f"version {number} is candidate; its dvc.lock is on branch {branch}"


def drifted(clone: Path, pruner: str) -> bool:
    """Score the pruner that there is on the data of now, without training it, and ask. True when there is none yet."""
    score, training = f"score_trained@{pruner}", f"train_pruner@{pruner}"
    if not (clone / "models" / pruner).is_dir():
        return True
    dvc = Dvc(clone)
    plan = dvc.plan()
    for stage in dvc.before(score):
        if plan[stage] and stage != training:
            reproduce_stage.with_options(task_run_name=f"canary: {stage}")(clone, stage, alone=True)
    told = check(pruner)
    if told["drifted"]:
        get_run_logger().info("drift, or no champion yet: training")
    return bool(told["drifted"])


@task(cache_policy=NO_CACHE)
def check(pruner: str) -> dict[str, Any]:
    """The drift check's answer, shown as a table."""
    told = ask("stages.registry.drift", pruner)
    if told["rows"]:
        create_table_artifact(told["rows"], key("drift", pruner), f"drift of {pruner} since the champion")
    return told


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=30)
def push(clone: Path) -> None:
    """Outputs to the DVC remote; tried again, since networks fail."""
    trees.remote(clone, "push")


@task(cache_policy=NO_CACHE)
def publish(clone: Path, pruner: str, stages: list[str]) -> str:
    """dvc.lock and metrics on a branch of the checkout; its name."""
    message = f"Retrain {pruner}\n\nMade: {', '.join(stages)}.\nPrefect run: {flow_run.id or 'none'}."
    return trees.commit(clone, message)


@task(cache_policy=NO_CACHE)
def register(pruner: str) -> str:
    """The version's number; the numbers that the next drift check is held against go with it."""
    told = ask("stages.registry.register", pruner)
    number = str(told["version"])
    call("stages.registry.drift", f"--keep={number}", "--", pruner)
    show(version_page(told["name"], number), "candidate", f"version {number} of {told['name']} in MLflow")
    return number


def main() -> None:
    """The command line; ends with the code of the stage that refused, 3 for a tree that is not clean."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--when", choices=["changed", "drift"], default="changed")
    parser.add_argument("--pruner", default="recon", help="one of grid.trained in params.yaml")
    words = parser.parse_args()
    require_server()
    try:
        print(retrain(words.when, words.pruner))
    except (StageError, DvcError, trees.WorkspaceError) as error:
        print(error, file=sys.stderr)
        sys.exit(getattr(error, "code", 3))


if __name__ == "__main__":
    main()
