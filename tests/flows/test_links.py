"""Addresses of MLflow's pages, and that a server which is slow, away or broken is never in a flow's way."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from flows import links
from flows.links import RunLinks, key, version_page

FLOW = "f696650f-ee53-4be7-81b5-dfb27b101ca5"


class Answers(BaseHTTPRequestHandler):
    """MLflow's two answers; `runs` maps the tag that is asked for to runs."""

    runs: dict[str, list[dict[str, Any]]] = {}
    seen: list[tuple[str, str]] = []
    broken = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Answers.seen.append((self.headers.get("authorization", ""), body.get("filter", "")))
        found = [run for tag, runs in self.runs.items() if f"tags.`{tag}`" in body.get("filter", "") for run in runs]
        said = {"experiments": [{"experiment_id": "7"}], "runs": [{"info": run} for run in found]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>" if self.broken else json.dumps(said).encode())

    def log_message(self, *_words: Any) -> None:
        return None


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Answers, "runs", {})
    monkeypatch.setattr(Answers, "seen", [])
    monkeypatch.delenv("FASTDRIVE_MLFLOW_PAGES", raising=False)
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{address}")
        yield address
        server.shutdown()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The links that were shown: (key, address)."""
    kept: list[tuple[str, str]] = []
    monkeypatch.setattr(links, "create_link_artifact", lambda page, _text, key, _about: kept.append((key, page)))
    return kept


def run(name: str, status: str = "FINISHED") -> dict[str, Any]:
    return {"experiment_id": "7", "run_id": name, "status": status}


def test_a_run_and_its_report_are_linked_once_each_and_the_report_when_it_is_done(
    mlflow: str, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = RunLinks(FLOW)
    shown.look()
    assert made == []
    Answers.runs = {"pipeline.parent": [run("a1", "RUNNING")], "dvc.stage": [run("b2", "RUNNING")]}
    shown.look()
    Answers.runs = {"pipeline.parent": [run("a1")], "dvc.stage": [run("b2")]}
    shown.look()
    shown.look()
    place = f"http://{mlflow}/#/experiments/7/runs"
    assert made == [("mlflow-run", f"{place}/a1"), ("report", f"{place}/b2/artifacts/index.html")]
    assert f"'{FLOW}'" in Answers.seen[1][1]


def test_a_password_goes_to_the_server_and_into_no_link(
    mlflow: str, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:s3cr%40t@{mlflow}")
    Answers.runs = {"pipeline.parent": [run("a1")]}
    RunLinks(FLOW).look()
    assert Answers.seen[0][0] == "Basic YW5uOnMzY3JAdA=="  # ann:s3cr@t
    assert made == [("mlflow-run", f"http://{mlflow}/#/experiments/7/runs/a1")]
    assert version_page("reconpruner", "3") == f"http://{mlflow}/#/models/reconpruner/versions/3"


def test_browsers_may_know_the_server_by_another_address(mlflow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDRIVE_MLFLOW_PAGES", "https://lab.example/mlflow/")
    assert version_page("a/b", "3") == "https://lab.example/mlflow/#/models/a%2Fb/versions/3"


@pytest.mark.parametrize("address", ["", "sqlite:////tmp/mlflow.db", "http://127.0.0.1:1"])
def test_without_a_server_that_answers_there_is_no_link_and_no_error(
    address: str, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    RunLinks(FLOW).look()
    assert made == []
    assert bool(version_page("reconpruner", "3")) == address.startswith("http")


def test_an_answer_that_is_no_json_is_no_error(
    mlflow: str, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "broken", True)
    RunLinks(FLOW).look()
    assert made == []


@pytest.mark.parametrize("fault", [TypeError(), http.client.IncompleteRead(b""), RuntimeError("Prefect is away")])
def test_whatever_goes_wrong_with_a_link_stops_no_flow(
    fault: Exception, mlflow: str, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object) -> None:
        raise fault

    monkeypatch.setattr(Answers, "runs", {"pipeline.parent": [run("a")]})
    monkeypatch.setattr(links, "create_link_artifact", refuse)
    seen = RunLinks(FLOW)
    seen.look()
    assert seen.shown == set()  # and it is asked for again


def test_a_key_is_what_prefect_takes() -> None:
    assert key("reports/tables/table1.csv") == "reports-tables-table1-csv"
    assert key("gate", "Recon_Pruner") == "gate-recon-pruner"
