"""For every test: one thread, no server, no telemetry, and run records outside the checkout."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "FASTDRIVE_TRACKING": "later",
    "MPLBACKEND": "Agg",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


@pytest.fixture(autouse=True, scope="session")
def _records_outside_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> None:
    from stages.core import tracking

    tracking.UNSENT = tmp_path_factory.mktemp("unsent")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite file without a run, made once for all tests that copy it: its migrations take seconds."""
    from stages.core import tracking

    return tracking.database(tmp_path_factory.mktemp("store"))


@pytest.fixture
def tiny_model() -> Any:
    """A Qwen2.5-VL of a few thousand random weights."""
    from tiny import make_tiny_model

    return make_tiny_model()


@pytest.fixture
def attention_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[bool]]:
    """The SDPA calls since the last question: was each made with gradients on?"""
    import torch
    import torch.nn.functional as F

    calls, stock = list[bool](), F.scaled_dot_product_attention

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        return stock(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)

    def since() -> list[bool]:
        seen = list(calls)
        calls.clear()
        return seen

    return since
