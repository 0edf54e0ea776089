import pytest
import torch

from stages.core.devices import own_device, turn_of


def test_workers_take_the_gpus_in_turn() -> None:
    assert [turn_of(f"SpawnProcess-{i}", 2) for i in (1, 2, 3, 4)] == [0, 1, 0, 1]
    assert turn_of("MainProcess", 8) == 0


def test_without_a_gpu_work_is_done_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == "cpu"


def test_with_gpus_a_process_without_a_number_takes_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device() == "cuda:0"
