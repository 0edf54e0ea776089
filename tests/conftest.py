"""For every test: one thread, no server, no telemetry, and run records outside the checkout."""

import os
from typing import Any

import pytest

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "FASTDRIVE_TRACKING": "spool",
    "MPLBACKEND": "Agg",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


@pytest.fixture(autouse=True, scope="session")
def _spool_outside_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> None:
    from stages import tracking

    tracking.SPOOL = tmp_path_factory.mktemp("spool")


@pytest.fixture
def tiny_model() -> Any:
    """A Qwen2.5-VL of a few thousand random weights."""
    from tiny import make_tiny_model

    return make_tiny_model()
