"""infra/compose.yaml run in a Docker engine: who its processes are, who can reach them, a run done, and what stays."""

import json
from collections.abc import Iterator

import pytest
from infra.containers import Containers, containers, missing, said

pytestmark = pytest.mark.slow

SERVICES = ("postgres", "s3", "mlflow", "prefect", "worker")
MLFLOW, PREFECT = "http://127.0.0.1:5000", "http://127.0.0.1:4200"

each = pytest.mark.parametrize("service", SERVICES)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    if why := missing():
        pytest.skip(why)
    with containers(tmp_path_factory.mktemp("containers")) as stack:
        yield stack


@each
def test_it_is_well_and_its_processes_may_do_nothing_that_they_need_not(stack: Containers, service: str) -> None:
    assert stack.state(service) == "healthy"
    users, caps = [], set()
    for line in said(["docker", "top", stack.container(service), "-eo", "uid,pid"]).splitlines()[1:]:
        uid, pid = line.split()
        users.append(int(uid))
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            caps |= {row.split()[1] for row in status if row.startswith(("CapEff", "CapPrm", "CapBnd"))}
    assert users
    assert {*users} == {999 if service == "postgres" else 10001}
    assert {int(mask, 16) for mask in caps} == {0}
    written = stack.inside(service, "sh", "-c", "touch /x 2>/dev/null || echo refused")
    assert written.strip() == "refused"


@each
def test_it_listens_on_loopback_only(stack: Containers, service: str) -> None:
    ports = json.loads(said(["docker", "inspect", stack.container(service)]))[0]["NetworkSettings"]["Ports"]
    assert {one["HostIp"] for port in ports.values() for one in port or []} <= {"127.0.0.1"}


def test_the_buckets_were_made_by_a_job_that_ended(stack: Containers) -> None:
    assert stack.state("buckets") == "exited 0"


def test_both_servers_want_their_passwords_and_mlflow_its_own_name(stack: Containers) -> None:
    mlflow = f"admin:{stack.passwords['MLFLOW_PASSWORD']}"
    page = f"{MLFLOW}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    assert [stack.code(page), stack.code(page, mlflow), stack.code(page, mlflow, Host="evil.example")] == [
        401,
        200,
        403,
    ]
    version = f"{PREFECT}/api/admin/version"
    assert [stack.code(version), stack.code(version, f"fastdrive:{stack.passwords['PREFECT_PASSWORD']}")] == [401, 200]
    assert stack.code(PREFECT) == 200  # the page, which then asks


@pytest.fixture(scope="module")
def worked(stack: Containers) -> Containers:
    """The stack in which masks were made."""
    words = ["deployment", "run", "reproduce/reproduce", "--param", "target=generate_masks", "--watch"]
    assert "Completed" in stack.inside("worker", "prefect", *words)
    return stack


def test_a_run_is_done_in_the_workers_clone_recorded_and_pushed_to_the_store(worked: Containers) -> None:
    changed = worked.inside("worker", "git", "status", "--porcelain").splitlines()
    assert [line.split() for line in changed] == [["M", "dvc.lock"], ["M", "metrics/masks.json"]]
    worked.inside("worker", "dvc", "push", "generate_masks")
    assert "up to date" in worked.inside("worker", "dvc", "push", "generate_masks")
    assert {"generate_masks", "make_world"} <= {*recorded(worked, "dvc.stage")}
    assert {page.partition("/runs/")[0] for page in recorded(worked, "prefect.flow_run.page")} == {PREFECT}


def test_no_password_is_in_a_log_or_on_a_command_line(worked: Containers) -> None:
    seen = worked.compose("logs", "--no-color")
    seen += "".join(said(["docker", "top", worked.container(service), "-eo", "pid,args"]) for service in SERVICES)
    assert "generate_masks" in seen
    secret = {name: value for name, value in worked.passwords.items() if name != "S3_USER"}  # a store logs its callers
    assert not [name for name, value in secret.items() if value in seen]


def test_commits_go_in_and_branches_come_out(stack: Containers) -> None:
    (stack.source / "new.txt").write_text("1\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["add", "new.txt"], ["commit", "-qm", "new"]):
        said([*git, *words], cwd=stack.source)
    stack.inside("worker", "git", "pull", "--quiet")
    assert stack.inside("worker", "cat", "new.txt") == "1\n"
    stack.inside("worker", "git", "branch", "retrain/2026-11-28")
    stack.inside("worker", "git", "bundle", "create", "-q", "/state/out.bundle", "--branches=retrain/*")
    said(["docker", "cp", f"{stack.container('worker')}:/state/out.bundle", str(stack.source / "out.bundle")])
    said(["git", "fetch", "-q", "out.bundle", "refs/heads/retrain/*:refs/heads/retrain/*"], cwd=stack.source)
    assert "retrain/2026-11-28" in said(["git", "branch"], cwd=stack.source)


def test_down_and_up_again_everything_is_there(worked: Containers) -> None:
    before = recorded(worked, "dvc.stage")
    worked.compose("down", "--timeout", "60")  # volumes stay
    worked.up()
    assert recorded(worked, "dvc.stage") == before
    assert "Data and pipelines are up to date" in worked.inside("worker", "dvc", "status", "generate_masks")
    assert "COMP" in worked.inside("worker", "prefect", "flow-run", "ls")  # as wide as its column is


def recorded(stack: Containers, tag: str) -> list[str]:
    """That tag of all runs in MLflow, as the worker reads them."""
    asked = f"mlflow.search_runs(search_all_experiments=True)['tags.{tag}'].dropna()"
    return stack.inside("worker", "python", "-c", f"import mlflow; print(*sorted({asked}))").split()
