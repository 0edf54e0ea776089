"""A store made once, copied for each test, in a checkout of its own."""

import shutil
from pathlib import Path

import pytest
from registered import make_checkout

from stages.core.params import Params
from stages.registry.versions import Registry


@pytest.fixture
def checkout(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The working directory: a checkout with a trained pruner that is committed, its store empty."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "FASTDRIVE_PIPELINE_RUN", "PREFECT__FLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return make_checkout(tmp_path)


@pytest.fixture
def registry(checkout: Params) -> Registry:
    """Three bare versions, the third the candidate."""
    registry = Registry("reconpruner")
    registry.client.create_registered_model("reconpruner")
    for _ in range(3):
        registry.client.create_model_version("reconpruner", "file:///nowhere")
    registry.point("candidate", "3")
    return registry
