"""Which GPU a process takes. The GPUs are counted by a stand-in: none is here."""

import multiprocessing
from types import SimpleNamespace

import pytest
import torch

from stages.core.errors import MachineError
from stages.masks.grounding.pipeline import chosen_device


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int, process: str = "MainProcess") -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(name=process))


@pytest.mark.parametrize(
    ("process", "number"),
    [("MainProcess", 0), ("SpawnProcess-1", 0), ("SpawnProcess-2", 1), ("SpawnProcess-4", 3), ("SpawnProcess-5", 0)],
)
def test_each_local_process_takes_another_gpu(monkeypatch: pytest.MonkeyPatch, process: str, number: int) -> None:
    pretend(monkeypatch, 4, process)
    assert chosen_device("auto") == chosen_device("cuda") == torch.device("cuda", number)
    assert chosen_device("cuda:3") == torch.device("cuda", 3)
    assert chosen_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, device: str, count: int) -> None:
    pretend(monkeypatch, count)
    with pytest.raises(MachineError, match=f"{count} GPUs that torch sees"):
        chosen_device(device)
