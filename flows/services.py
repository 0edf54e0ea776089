"""What `make serve` starts: command, settings and health page of MLflow's and Prefect's servers and the worker."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

HOST = "127.0.0.1"
POOL = "fastdrive"
PORTS = {"mlflow": 5000, "prefect": 4200, "worker": 4201}
QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for LLM judges, which nothing here asks for
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PYTHONUNBUFFERED": "1",
}


class ServeError(RuntimeError):
    """What was wanted, what came, what to do next; the command ends with `code`."""

    def __init__(self, words: str, code: int = 4) -> None:
        super().__init__(words)
        self.code = code


@dataclass(frozen=True)
class Service:
    """One process of the stack; it is well when `health` answers with 200."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    port: int
    health: str

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"


def services(root: Path, env: Mapping[str, str]) -> list[Service]:
    """The three, from the settings in `env`, their data in `root`/.local. Raises ServeError for a setting of no use."""
    home, ports = root / ".local", {name: _port(name, env) for name in PORTS}
    if len({*ports.values()}) < len(ports):
        raise ServeError(f"wanted three ports; got {ports}; next: set {', '.join(map(port_setting, PORTS))}", 2)
    mlflow, prefect, worker = (f"http://{HOST}:{port}" for port in ports.values())
    path = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    shared = {key: value for key, value in env.items() if key not in ("MLFLOW_TRACKING_URI", "FASTDRIVE_DATABASE_URL")}
    shared |= QUIET | {"PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": f"{prefect}/api", "PATH": path}
    asked = shared | {"PREFECT_WORKER_WEBSERVER_HOST": HOST, "PREFECT_WORKER_WEBSERVER_PORT": str(ports["worker"])}
    mlflow_db, prefect_db = databases(home, env.get("FASTDRIVE_DATABASE_URL", ""))
    python, at = (sys.executable, "-m"), ("--host", HOST, "--port")
    files = ("--workers", "1", "--artifacts-destination", str(home / "mlartifacts"))
    start_worker = ("worker", "start", "--pool", POOL, "--type", "process", "--name", POOL, "--with-healthcheck")
    mlflow_command = (*python, "mlflow", "server", *at, str(ports["mlflow"]), *files)
    prefect_command = (*python, "prefect", "server", "start", *at, str(ports["prefect"]))
    return [
        Service("mlflow", mlflow_command, shared | mlflow_db, ports["mlflow"], f"{mlflow}/health"),
        Service("prefect", prefect_command, shared | prefect_db, ports["prefect"], f"{prefect}/api/health"),
        Service(
            "worker",
            (*python, "prefect", *start_worker),
            asked | {"MLFLOW_TRACKING_URI": mlflow},
            ports["worker"],
            f"{worker}/health",
        ),
    ]


def port_setting(name: str) -> str:
    """The variable that moves a service to another port."""
    return f"FASTDRIVE_{name.upper()}_PORT"


def _port(name: str, env: Mapping[str, str]) -> int:
    said = env.get(port_setting(name)) or str(PORTS[name])
    if not said.isdigit() or not 0 < int(said) < 65536:
        raise ServeError(f"wanted a port; got {said!r}; next: {port_setting(name)}={PORTS[name]}", 2)
    return int(said)


def databases(home: Path, url: str) -> tuple[dict[str, str], dict[str, str]]:
    """Settings of MLflow's server and of Prefect's: SQLite files in `home`, or one PostgreSQL database, a schema each.

    By the environment, not the command line, which everybody on the machine can read.
    """
    if not url:
        return {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{home / 'mlflow.db'}"}, {}
    found = urlsplit(url)
    asked = parse_qs(found.query)
    if found.scheme not in ("postgresql", "postgres") or not found.path.strip("/") or {*asked} - {"sslmode"}:
        raise ServeError(
            "wanted FASTDRIVE_DATABASE_URL=postgresql://user:password@host:port/database, with no option but sslmode; "
            f"got one that begins with {found.scheme or 'no scheme'}; next: set it so, or unset it for SQLite",
            2,
        )
    where = f"{found.netloc}/{quote(found.path.strip('/'))}"
    ssl = asked.get("sslmode", [""])[0]
    mlflow = f"postgresql+psycopg2://{where}" + (f"?sslmode={ssl}" if ssl else "")
    prefect = f"postgresql+asyncpg://{where}" + (f"?ssl={ssl}" if ssl else "")
    return (
        {"MLFLOW_BACKEND_STORE_URI": mlflow, "PGOPTIONS": "-c search_path=mlflow"},
        {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect,
            "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_SEARCH_PATH": "prefect",
        },
    )
