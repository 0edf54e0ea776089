"""infra/compose.yaml read, not run: who can reach it, which passwords it wants, what its processes may do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.deployments import POOL

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
JOBS = {"buckets"}  # these end
NAMES = re.findall(r"^(\w+)=(.*)$", (INFRA / ".env.example").read_text(), re.MULTILINE)
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|AUTH_STRING|(ROOT|S3)_USER")

each = pytest.mark.parametrize("name", SERVICES)


@each
def test_a_port_is_open_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        host, outside, inside = port.split(":")
        assert (host, outside) == ("127.0.0.1", inside)
    assert SERVICES[name].get("network_mode") is None
    assert SERVICES[name]["networks"] == ["fastdrive"]


@each
def test_a_secret_comes_from_the_environment_and_has_no_default(name: str) -> None:
    settings = SERVICES[name].get("environment", {})
    assert isinstance(settings, dict)
    for key, value in settings.items():
        if SECRET.search(key) and not key.endswith("_PATH"):
            assert re.fullmatch(r"(fastdrive:)?\$\{\w+:\?[^}]+\}", str(value)), key
        assert not re.search(r"://[^/@\s]*:[^/@\s]*@", str(value)), f"{key} has a password in an address"
    words = " ".join(SERVICES[name].get("command", []))
    assert "$" not in words  # everybody on the machine can read a command line


def test_each_name_that_is_asked_for_is_in_the_example_without_a_value() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (INFRA / "compose.yaml").read_text()))
    assert {name for name, _ in NAMES} == asked
    assert not [name for name, value in NAMES if value]
    ignored = subprocess.run(["git", "check-ignore", "-q", "infra/.env"], cwd=ROOT)
    assert ignored.returncode in (0, 128)  # 128: no git here


@each
def test_an_image_has_a_version_and_its_process_is_not_root(name: str) -> None:
    service = SERVICES[name]
    repository, _, tag = service["image"].partition(":")
    assert re.search(r"\d+\.\d+", tag), service["image"]
    assert "latest" not in service["image"]
    user = str(service["user"]).split(":")
    assert all(part.isdigit() and int(part) > 0 for part in user)
    assert repository.startswith("fastdrive/") == ("build" in service)


@each
def test_a_process_may_do_nothing_that_it_need_not(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "cap_add", "pid", "ipc", "devices", "userns_mode"} & {*service}
    assert not [volume for volume in service.get("volumes", []) if "docker.sock" in volume]
    for volume in service.get("volumes", []):  # what is of this machine is read only
        assert not volume.startswith((".", "/")) or volume.endswith(":ro")


@each
def test_a_service_that_stays_says_whether_it_is_well(name: str) -> None:
    if name in JOBS:
        assert SERVICES[name]["restart"] == "no"
        return
    test = SERVICES[name]["healthcheck"]["test"]
    assert test[0] == "CMD"  # no shell
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_mlflow_hears_its_own_names_only_and_asks_for_a_password() -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    words = dict(word.lstrip("-").partition("=")[::2] for word in SERVICES["mlflow"]["command"])
    hosts = words["allowed-hosts"].split(",")
    address = SERVICES["worker"]["environment"]["MLFLOW_TRACKING_URI"]
    heard = [address.partition("://")[2], "127.0.0.1:5000", "localhost:5000"]
    assert all(is_allowed_host_header(hosts, host) for host in heard)
    assert not is_allowed_host_header(hosts, "evil.example:5000")
    assert words["app-name"] == "basic-auth"
    assert "disable-security-middleware" not in words
    assert "*" not in words["cors-allowed-origins"]
    assert words["artifacts-destination"] == "s3://mlflow"
    assert SERVICES["buckets"]["command"][-2:] == ["mlflow", SERVICES["worker"]["environment"]["DVC_BUCKET"]]


def test_prefect_asks_for_the_password_that_its_worker_gives() -> None:
    server, worker = SERVICES["prefect"]["environment"], SERVICES["worker"]["environment"]
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == worker["PREFECT_API_AUTH_STRING"]
    assert server["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert "*" not in server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert "PREFECT_SERVER_API_AUTH_STRING" not in worker


def test_prefect_knows_every_setting_that_is_named() -> None:
    from prefect.settings.legacy import _get_valid_setting_names
    from prefect.settings.models.root import Settings

    named = {key for one in SERVICES.values() for key in one.get("environment", {}) if key.startswith("PREFECT_")}
    assert named - {"PREFECT_DB_PASSWORD"} - {*_get_valid_setting_names(Settings)} == set()


def test_the_worker_serves_the_pool_of_the_deployments() -> None:
    script = (INFRA / "worker.sh").read_text()
    assert f"--pool {POOL} " in script
    assert yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"][0]["work_pool"]["name"] == POOL


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]])
def test_docker_compose_takes_it_and_refuses_it_without_passwords(files: list[str]) -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no `docker compose` here")
    command = [docker, "compose", *(word for file in files for word in ("-f", str(INFRA / file))), "config", "--quiet"]
    bare = {"PATH": str(Path(docker).parent), "HOME": "/nonexistent", "COMPOSE_DISABLE_ENV_FILE": "1"}
    given = bare | {name: "swordfish" for name, _ in NAMES} | {"NUSCENES_ROOT": "/data"}
    taken = subprocess.run(command, env=given, capture_output=True, text=True)
    assert taken.returncode == 0, taken.stderr
    refused = subprocess.run(command, env=bare, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "see infra/.env.example" in refused.stderr
