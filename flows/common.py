"""Shared by the flows: the command line around a flow, who decides, links to MLflow's pages."""

import os
import re
import sys
from collections.abc import Callable
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
from prefect.artifacts import create_link_artifact
from prefect.runtime import deployment, flow_run
from prefect.settings import PREFECT_API_URL
from prefect.utilities.urls import url_for

from stages.core.errors import InputError, MachineError, ParamsError, TryAgainError, masked
from stages.core.provenance import user


def run_flow(flow: Callable[[], object]) -> None:
    """Run a flow from the command line: print its result; a refusal ends the process with its exit code and a line."""
    try:
        require_server()
        print(flow())
        return
    except InputError as error:
        refusal = error
    except httpx.TransportError as error:
        fix = "run the same command again, finished stages are kept; `fastdrive reproduce` needs no server"
        refusal = TryAgainError(expected="Prefect's server until the flow ended", got=str(error), fix=fix)
    print(masked(str(refusal)), file=sys.stderr)
    sys.exit(refusal.exit_code)


def require_server() -> None:
    """Raises MachineError when PREFECT_API_URL names a server that does not answer; without it the flow starts one."""
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        return
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    try:
        httpx.get(f"{url}/health", timeout=10, trust_env=not local).raise_for_status()
    except httpx.HTTPError as error:
        raise MachineError(
            expected=f"Prefect's server at {masked(url)}",
            got=masked(str(error).splitlines()[0]),
            fix="`make serve` in another shell, or `unset PREFECT_API_URL`",
        ) from error


def person(by: str) -> str:
    """Return `by`, or the user of this process. Raises ParamsError in a deployment, which runs as its worker's user."""
    if by.strip():
        return by.strip()
    if not deployment.id and user():
        return user()
    raise ParamsError(expected="the name of who decides", got="none", fix="fill in `by` (--by NAME)")


def flow_run_id() -> str:
    """The id of this flow run; empty outside of one."""
    return str(flow_run.id or "")


def flow_page() -> str:
    """The page of this flow run; empty without a server that outlives it."""
    return url_for("flow-run", flow_run.id) or "" if flow_run.id and PREFECT_API_URL.value() else ""


def version_page(name: str, number: str) -> str:
    """The page of a version of a registered model; empty where MLflow has no server."""
    return mlflow_page(f"models/{quote(name, safe='')}/versions/{number}")


def mlflow_page(path: str) -> str:
    """An address for browsers, without a password. FASTDRIVE_MLFLOW_PAGES replaces MLFLOW_TRACKING_URI there."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    server = os.environ.get("FASTDRIVE_MLFLOW_PAGES") or (tracking if tracking.startswith("http") else "")
    parts = urlsplit(server.rstrip("/"))
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return (
        f"{bare}/#/{path}?workflowType=machine_learning" if bare else ""
    )  # else it opens on pages for language models


def show(page: str, key: str, text: str) -> None:
    """Add a link to the artifacts of the flow run; nothing for an empty address."""
    if page:
        create_link_artifact(page, text, key, f"[{text}]({page})")


def artifact_key(*words: str) -> str:
    """A key as Prefect takes it for an artifact: a-z, 0-9 and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
