"""infra/compose.yaml without its containers: the commands and environments that it says, as processes of this machine.

PostgreSQL is a real one, S3 is moto's. What containers add (users, networks, read-only file systems) is not here.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from postgresql import postgresql, programs
from s3 import Store, s3
from stack import ROOT, free_port, settings, until

pytestmark = pytest.mark.slow

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
IMAGE = dict(re.findall(r"\b([A-Z_]+)=(\w+)", (ROOT / "infra/docker/Dockerfile").read_text().partition("RUN")[0]))


class Machine:
    """Where each address and folder of compose lies here."""

    def __init__(self, home: Path, source: Path, database: str, store: Store) -> None:
        self.home, self.ports = home, {"mlflow": free_port(), "prefect": free_port(), "worker": free_port()}
        self.passwords = {
            name: f"swordfish-{name}" for name in ("POSTGRES", "MLFLOW", "PREFECT", "MLFLOW_DB", "PREFECT_DB")
        }
        self.database = database.rpartition("@")[2].partition("/")[0]
        self.store = store
        self.places = {
            "postgres:5432": self.database,
            "http://s3:9000": store.address,
            "0.0.0.0": "127.0.0.1",
            "/app/": f"{ROOT}/infra/docker/",
            "/source": str(source),
            "/state": str(home / "state"),
            "/tmp/": f"{home}/tmp/",
            "/work": str(home / "work"),
            "port=5000": f"port={self.ports['mlflow']}",
            "port=4200": f"port={self.ports['prefect']}",
            "//mlflow:5000": f"//127.0.0.1:{self.ports['mlflow']}",
            "//prefect:4200": f"//127.0.0.1:{self.ports['prefect']}",
            "4201": str(self.ports["worker"]),
        }
        for name in ("state", "work", "tmp"):
            (home / name).mkdir()

    def here(self, text: str) -> str:
        text = re.sub(r"\$\{(\w+?)(_PASSWORD|_SECRET_KEY|_USER):\?[^}]*\}", self._secret, text)
        return re.sub("|".join(map(re.escape, self.places)), lambda found: self.places[found[0]], text)  # in one pass

    def _secret(self, found: re.Match[str]) -> str:
        if found[1] == "S3":
            return self.store.login["AWS_ACCESS_KEY_ID" if found[2] == "_USER" else "AWS_SECRET_ACCESS_KEY"]
        return self.passwords[found[1]]

    def env(self, name: str) -> dict[str, str]:
        said = {key: self.here(str(value)) for key, value in SERVICES[name]["environment"].items()}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        more = {"PATH": path, "HOME": str(self.home / "state")}
        more |= IMAGE | {name: value for name, value in self.store.login.items() if name.endswith("_FILE")}
        return (
            more | said | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}
        )

    @contextmanager
    def running(self, name: str, health: str) -> Iterator[None]:
        words = [self.here(word) for word in SERVICES[name]["command"]]
        if name == "worker":
            script = self.home / "worker.sh"
            script.write_text(self.here((ROOT / "infra/docker/worker.sh").read_text()))
            words = ["bash", str(script)]
        with open(self.home / f"{name}.log", "w") as log:
            process = psutil.Popen(words, cwd=self.home / "work", env=self.env(name), stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{self.ports[name]}{health}"
            until(lambda: process.poll() is not None or code(address) == 200, 500)
            assert process.poll() is None, (self.home / f"{name}.log").read_text()[-3000:]
            yield
        finally:
            below = [process, *process.children(recursive=True)]
            process.terminate()
            for left in psutil.wait_procs(below, 60)[1]:
                left.kill()


def code(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


@pytest.fixture(scope="module")
def machine(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    home = tmp_path_factory.mktemp("compose")
    source = shutil.copytree(template, home / "source")
    with ExitStack() as up:
        store = up.enter_context(s3(home / "s3.log"))
        database = up.enter_context(postgresql())
        machine = Machine(home, source, database, store)
        env = machine.env("postgres") | {"PGHOST": "127.0.0.1", "PGPORT": machine.database.partition(":")[2]}
        env |= {"PGPASSWORD": "p@ss", "POSTGRES_USER": "ann", "POSTGRES_DB": "fast"}
        env["PATH"] = os.pathsep.join([str(programs()), env["PATH"]])
        subprocess.run(["bash", ROOT / "infra/docker/postgres.sh"], env=env, check=True)
        words = [machine.here(word) for word in SERVICES["buckets"]["command"]]
        subprocess.run(words, env=machine.env("buckets"), check=True)
        up.enter_context(machine.running("prefect", "/api/health"))
        up.enter_context(machine.running("mlflow", "/health"))
        up.enter_context(machine.running("worker", "/health"))
        yield machine


def test_mlflow_answers_to_its_name_in_compose_and_keeps_files_in_the_store(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    worker = machine.env("worker")
    login = b64encode(f"admin:{worker['MLFLOW_TRACKING_PASSWORD']}".encode()).decode()
    ask = {"Authorization": f"Basic {login}"}
    page = f"{worker['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    assert code(page, Host="mlflow:5000", **ask) == 200
    assert code(page, Host="evil.example:5000", **ask) == 403
    assert code(page, Host="mlflow:5000") == 401
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, worker[name])
    client = MlflowClient(worker["MLFLOW_TRACKING_URI"])  # a worker gives its files to the server, not to the store
    run = client.create_run(client.create_experiment("compose"))
    client.log_dict(run.info.run_id, {"a": 1}, "a.json")
    listed = machine.store.ask("s3").list_objects_v2(Bucket="mlflow")["Contents"]
    assert [entry["Key"].rpartition("/")[2] for entry in listed] == ["a.json"]


def test_the_worker_does_a_run_in_its_own_clone_and_pushes_to_the_store(machine: Machine) -> None:
    worker = machine.env("worker")
    assert code(f"{worker['PREFECT_API_URL']}/admin/version") == 401
    env = settings() | {name: worker[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}
    env |= {"PREFECT_HOME": str(machine.home / "client")}
    words = ["deployment", "run", "reproduce/reproduce", "--watch"]
    ended = subprocess.run([sys.executable, "-m", "prefect", *words], env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:] + (machine.home / "worker.log").read_text()[-3000:]
    work = machine.home / "work"
    assert (work / "metrics/report.json").is_file()
    subprocess.run([sys.executable, "-m", "dvc", "push"], cwd=work, env=worker, check=True)
    assert len(machine.store.ask("s3").list_objects_v2(Bucket="dvc")["Contents"]) == 4
    said = subprocess.run(["git", "status", "--porcelain"], cwd=work, capture_output=True, text=True, check=True).stdout
    assert ".dvc" not in said  # the store's address is this machine's, not the project's


def test_no_password_is_in_a_log(machine: Machine) -> None:
    logs = "".join(path.read_text(errors="replace") for path in machine.home.glob("*.log"))
    secrets = [*machine.passwords.values(), machine.store.login["AWS_SECRET_ACCESS_KEY"]]
    assert not [secret for secret in secrets if secret in logs]
