"""Passwords of `make serve`: on by being set, each only where it is needed, refused when of no use, never said."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.logins import check_login, shell, with_logins
from flows.services import ServeError, Service, services

PREFECT, MLFLOW = "ann:swordfish-in-prefect", "swordfish-in-mlflow"


def made(tmp_path: Path, **env: str) -> list[Service]:
    return with_logins(tmp_path / ".local", services(tmp_path, env), env)


def test_without_a_password_nobody_is_asked_and_no_page_of_another_site_may_ask(tmp_path: Path) -> None:
    mlflow, prefect, worker = made(tmp_path)
    assert "--app-name" not in mlflow.command
    assert not [name for one in (mlflow, prefect, worker) for name in one.env if "AUTH" in name or "PASSWORD" in name]
    assert prefect.env["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200,http://localhost:4200"
    assert shell(worker) == ""


@pytest.mark.parametrize("name", ["PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"])
def test_either_name_gives_the_server_of_prefect_and_its_clients_one_password(tmp_path: Path, name: str) -> None:
    mlflow, prefect, worker = made(tmp_path, **{name: PREFECT})
    assert prefect.env["PREFECT_SERVER_API_AUTH_STRING"] == PREFECT
    assert prefect.env["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert worker.env["PREFECT_API_AUTH_STRING"] == PREFECT
    assert "PREFECT_SERVER_API_AUTH_STRING" not in worker.env
    assert PREFECT not in mlflow.env.values()


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD"])
def test_either_name_gives_mlflow_and_its_clients_one_password(tmp_path: Path, name: str) -> None:
    mlflow, prefect, worker = made(tmp_path, **{name: MLFLOW})
    assert mlflow.command[-2:] == ("--app-name", "basic-auth")
    assert mlflow.env["MLFLOW_AUTH_ADMIN_PASSWORD"] == MLFLOW
    assert (worker.env["MLFLOW_TRACKING_USERNAME"], worker.env["MLFLOW_TRACKING_PASSWORD"]) == ("admin", MLFLOW)
    assert not {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"} & {*worker.env}
    assert MLFLOW not in prefect.env.values()
    settings = Path(mlflow.env["MLFLOW_AUTH_CONFIG_PATH"]).read_text()
    assert f"database_uri = sqlite:///{tmp_path}/.local/mlflow-users.db" in settings
    assert "default_permission = NO_PERMISSIONS" in settings
    assert MLFLOW not in settings


def test_no_password_is_on_a_command_line_or_in_what_is_said(tmp_path: Path) -> None:
    found = made(tmp_path, PREFECT_API_AUTH_STRING=PREFECT, MLFLOW_TRACKING_PASSWORD=MLFLOW)
    assert not [word for one in found for word in one.command if "swordfish" in word]
    said = shell(found[2])
    assert "PREFECT_API_AUTH_STRING" in said
    assert "swordfish" not in said


@pytest.mark.parametrize(
    "env",
    [
        {"PREFECT_API_AUTH_STRING": "swordfish"},
        {"PREFECT_API_AUTH_STRING": "ann:"},
        {"PREFECT_API_AUTH_STRING": PREFECT, "PREFECT_SERVER_API_AUTH_STRING": "ann:swordfish"},
        {"MLFLOW_TRACKING_PASSWORD": "swordfish"},
        {"MLFLOW_TRACKING_PASSWORD": MLFLOW, "MLFLOW_AUTH_ADMIN_PASSWORD": "swordfish-another"},
    ],
)
def test_a_password_of_no_use_is_refused_without_being_said(tmp_path: Path, env: dict[str, str]) -> None:
    with pytest.raises(ServeError, match=r"wanted one .* next: export \w+") as raised:
        made(tmp_path, **env)
    assert raised.value.code == 2
    assert "swordfish" not in str(raised.value)


def test_a_password_of_mlflow_without_its_package_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.logins.find_spec", lambda name: None)
    with pytest.raises(ServeError, match=r"--require-hashes -r requirements\.lock") as raised:
        made(tmp_path, MLFLOW_TRACKING_PASSWORD=MLFLOW)
    assert raised.value.code == 4


def test_where_no_password_is_set_no_login_is_tried(tmp_path: Path) -> None:
    mlflow, _, worker = made(tmp_path)
    check_login(replace(mlflow, port=1), worker)  # nothing listens there
