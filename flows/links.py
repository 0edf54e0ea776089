"""From a flow run to what it left in MLflow, and back: addresses of pages, shown as links. Asks MLflow by HTTP alone.

FASTDRIVE_MLFLOW_PAGES is where browsers find MLflow's server, when that is not MLFLOW_TRACKING_URI.
"""

import base64
import json
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from prefect.artifacts import create_link_artifact
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.utilities.urls import url_for

PATIENCE_S = 5.0


def flow_page() -> str:
    """Where this flow run is shown; empty without a server that outlives it."""
    return url_for("flow-run", flow_run.id) or "" if flow_run.id and PREFECT_API_URL.value() else ""


def version_page(name: str, number: str) -> str:
    """Of a version of a registered model; empty where MLflow has no server."""
    return _page(f"models/{quote(name, safe='')}/versions/{number}")


class RunLinks:
    """Links to the MLflow run of a flow run and to its report, each shown once, as soon as it is there."""

    def __init__(self, flow_run_id: str) -> None:
        self.flow_run_id = flow_run_id
        self.shown = set[str]()

    def look(self) -> None:
        """Never in the way of the flow: what MLflow does not answer, or Prefect does not take, is not shown."""
        if not self.flow_run_id or self.shown >= {"mlflow-run", "report"}:
            return
        with suppress(Exception):  # a server that goes away says it in many ways, and the stages have done their work
            for tag, value, key, text, within in (
                ("pipeline.parent", self.flow_run_id, "mlflow-run", "the run in MLflow: params, metrics, files", ""),
                ("dvc.stage", "make_report", "report", "the report of this run", "/artifacts/index.html"),
            ):
                asked = f"tags.`pipeline.fingerprint` = '{self.flow_run_id}' and tags.`{tag}` = '{value}'"
                if key not in self.shown and (found := [run for run in _runs(asked) if not within or _over(run)]):
                    show(_page(f"experiments/{found[0]['experiment_id']}/runs/{found[0]['run_id']}{within}"), key, text)
                    self.shown.add(key)


def show(page: str, key: str, text: str) -> None:
    """A link among the artifacts of the flow run; nothing for an empty address."""
    if page:
        create_link_artifact(page, text, key, f"[{text}]({page})")


def key(*words: str) -> str:
    """A name that Prefect takes for an artifact: a-z, 0-9 and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def _over(run: dict[str, Any]) -> bool:
    return bool(run["status"] == "FINISHED")


def _server() -> str:
    address = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    return address if address.startswith(("http://", "https://")) else ""


def _page(path: str) -> str:
    """An address without the password that a client's may hold."""
    parts = urlsplit(os.environ.get("FASTDRIVE_MLFLOW_PAGES", "").rstrip("/") or _server())
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return f"{bare}/#/{path}" if bare else ""


def _runs(asked: str) -> Iterator[dict[str, Any]]:
    """`info` of the runs that MLflow's query finds, newest first."""
    experiments = [one["experiment_id"] for one in _ask("experiments/search", {"max_results": 100})["experiments"]]
    query = {"experiment_ids": experiments, "filter": asked, "order_by": ["attributes.start_time DESC"]}
    yield from (run["info"] for run in _ask("runs/search", query).get("runs", []))


def _ask(path: str, body: Any) -> Any:
    if not _server():
        raise OSError("no server")
    parts = urlsplit(_server())
    user = unquote(parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME", ""))
    password = unquote(parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    headers = {"content-type": "application/json"}
    if user:
        headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    asked = urllib.request.Request(f"{bare}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
    # A proxy of the environment is not for this machine's own server, and would be told its password
    direct = [urllib.request.ProxyHandler({})] if parts.hostname in ("127.0.0.1", "localhost", "::1") else []
    with urllib.request.build_opener(*direct).open(asked, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())
