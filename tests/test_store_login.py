"""An MLflow server that asks for a password: who has none, or a wrong one, is told what to set."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from stages.core import store
from stages.core.errors import MachineError


class Asking(BaseHTTPRequestHandler):
    """Answers as MLflow's basic-auth app does."""

    def do_GET(self) -> None:
        words = b"You are not authenticated."
        self.send_response(401)
        self.send_header("content-length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Asking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_who_is_not_let_in_is_told_which_variables_to_set_and_no_password(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "swordfish-wrong")
    with pytest.raises(MachineError, match="MLFLOW_TRACKING_PASSWORD") as raised, store.answering(address, "runs"):
        store.client(address).search_experiments(max_results=1)
    assert "wanted to be let in: runs in http://127.0.0.1" in str(raised.value)
    assert "swordfish" not in str(raised.value)
