"""The MLflow store of a checkout: where it is, how long it is waited for, and that nothing in it is unpickled."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, MachineError
from stages.core.secrets import masked

PATIENCE_S = 5
SQLITE = "sqlite:///"
NOTE = "mlflow.note.content"  # what MLflow's pages show as description


def address() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite file of the checkout, which is made when it is not there."""
    return os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{database(Path.cwd())}"


def artifacts() -> str | None:
    """Where a new experiment keeps its files: beside the SQLite file; a server says it itself."""
    file = os.environ.get("MLFLOW_TRACKING_URI", "") or f"{SQLITE}{Path.cwd() / 'mlflow.db'}"
    return (Path(file.removeprefix(SQLITE)).absolute().parent / "mlartifacts").as_uri() if SQLITE in file else None


def client(uri: str) -> Any:
    """MLflow's client of the store at `uri`."""
    settings()
    from mlflow import MlflowClient

    return MlflowClient(uri)


def settings() -> None:
    """What every process of ours sets before it imports MLflow: short waits, no telemetry, no pickle."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # 7 by default: 245 s on a closed port
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE_S))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # a model that is a pickle runs what it likes


@contextmanager
def answering(uri: str, wanted: str) -> Iterator[None]:
    """Inside, what MLflow refuses is a DataError, and a store that is away a MachineError, both naming `wanted`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        said = masked(str(error).splitlines()[0][:300] if str(error) else repr(error))
        wanted = f"{wanted} in {masked(uri)}"
        code = getattr(error, "error_code", "INTERNAL_ERROR")
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            then = "export MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD as that server has them"
            raise MachineError(expected=f"to be let in: {wanted}", got=said, fix=then) from error
        if code == "INTERNAL_ERROR":
            then = "start the server, or set MLFLOW_TRACKING_URI, and run the same command again"
            raise MachineError(expected=wanted, got=said, fix=then) from error
        then = f"look it up: `mlflow ui --backend-store-uri {masked(uri)}`; or set MLFLOW_TRACKING_URI"
        raise DataError(expected=wanted, got=said, fix=then) from error


def database(root: Path) -> Path:
    """The SQLite file of the checkout, made under another name: MLflow cannot mend one that a kill left half made."""
    path, unfinished = root / "mlflow.db", root / f"mlflow.db.{os.getpid()}.tmp"
    if not path.exists():
        client(f"sqlite:///{unfinished}").search_experiments(max_results=1)
        unfinished.replace(path)
    return path
