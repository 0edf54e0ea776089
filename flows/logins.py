"""Passwords in the environment switch authentication of MLflow's and Prefect's servers on; clients get theirs.

PREFECT_API_AUTH_STRING=user:password      Prefect: server, worker, deployments, every shell that asks it
MLFLOW_TRACKING_PASSWORD=12 or more        MLflow: the user MLFLOW_TRACKING_USERNAME, admin by default
"""

import secrets
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from flows.services import ServeError, Service

SHORTEST = 12  # MLflow takes no shorter password
SERVERS_ONLY = ("PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
USERS = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{users}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def with_logins(home: Path, found: list[Service], env: Mapping[str, str]) -> list[Service]:
    """MLflow, Prefect and the worker, with what they need to ask for a password, or to give it.

    Raises ServeError for a password of no use. No process gets one that it does not need.
    """
    on_mlflow, by_mlflow, words = _mlflow(home, env)
    on_prefect, by_prefect = _prefect(env)
    given = {*SERVERS_ONLY, *by_mlflow, *by_prefect}
    mlflow, prefect, worker = (
        replace(one, env={key: value for key, value in one.env.items() if key not in given}) for one in found
    )
    origins = f"{prefect.address},http://localhost:{prefect.port}"  # by default any page in a browser may ask it
    narrow = {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins}
    return [
        replace(mlflow, env={**mlflow.env, **on_mlflow}, command=(*mlflow.command, *words)),
        replace(prefect, env=narrow | {**prefect.env, **by_prefect, **on_prefect}),
        replace(worker, env={**worker.env, **by_prefect, **by_mlflow}),
    ]


def _prefect(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Settings of the server, and of all who ask it."""
    said = {env[name] for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING") if env.get(name)}
    if not said:
        return {}, {}
    if len(said) > 1 or not all(part for text in said for part in text.partition(":")):
        then = "export PREFECT_API_AUTH_STRING=user:password, and unset PREFECT_SERVER_API_AUTH_STRING"
        raise ServeError(f"wanted one user:password for Prefect; got two, or one of another form; next: {then}", 2)
    (password,) = said
    server = {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}
    return server, {"PREFECT_API_AUTH_STRING": password}


def _mlflow(home: Path, env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Settings of the server, of all who ask it, and more words of the server's command line."""
    said = {env[name] for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_TRACKING_PASSWORD") if env.get(name)}
    if not said:
        return {}, {}, ()
    if len(said) > 1 or any(len(text) < SHORTEST for text in said):
        then = f"export MLFLOW_TRACKING_PASSWORD with {SHORTEST} letters or more, and unset MLFLOW_AUTH_ADMIN_PASSWORD"
        raise ServeError(f"wanted one password for MLflow; got two, or a shorter one; next: {then}", 2)
    if find_spec("flask_wtf") is None:
        then = ".venv/bin/pip install --no-deps --require-hashes -r requirements.lock"
        raise ServeError(f"wanted flask-wtf, which MLflow asks passwords with; got none; next: {then}", 4)
    (password,), user = said, env.get("MLFLOW_TRACKING_USERNAME") or "admin"
    home.mkdir(parents=True, exist_ok=True)
    users = str(home / "mlflow-users.db").replace("%", "%%")  # a percent sign has a meaning in such a file
    (home / "mlflow-auth.ini").write_text(USERS.format(users=users), encoding="utf-8")
    server = {
        "MLFLOW_AUTH_CONFIG_PATH": str(home / "mlflow-auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),  # of forms; a restart may void those that are open
    }
    return (
        server,
        {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password},
        ("--app-name", "basic-auth"),
    )


def shell(worker: Service) -> str:
    """What a person's shell needs besides the addresses, without a value."""
    needed = ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    names = [name for name in needed if name in worker.env]
    return f"; with {', '.join(names)} as here" if names else ""


def check_login(mlflow: Service, worker: Service) -> None:
    """Raises ServeError when MLflow knows another password than the worker has: it keeps the one of its first start."""
    password = worker.env.get("MLFLOW_TRACKING_PASSWORD")
    if not password:
        return
    words = b64encode(f"{worker.env['MLFLOW_TRACKING_USERNAME']}:{password}".encode()).decode()
    asked = urllib.request.Request(f"{mlflow.address}/version", headers={"Authorization": f"Basic {words}"})
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30).close()
    except urllib.error.HTTPError as error:
        error.close()
        users = Path(mlflow.env["MLFLOW_AUTH_CONFIG_PATH"]).with_name("mlflow-users.db")
        then = f"set the password of the first start, or `rm {users}` to begin with new users"
        raise ServeError(
            f"wanted MLflow to take MLFLOW_TRACKING_PASSWORD; got {error.code}; next: {then}", 2
        ) from error
    except OSError as error:
        raise ServeError(
            f"wanted MLflow to say whether it takes MLFLOW_TRACKING_PASSWORD; got {error}; next: `make serve` again"
        ) from error
