"""The most memory that a call holds, on a CPU by its operators, on a GPU by the allocator."""

import pytest
import torch
from torch.nn import functional as F

from stages.efficiency import memory
from stages.efficiency.memory import ON_CPU, ON_GPU, counted_by, peak_bytes
from stages.efficiency.traced import trace


def test_on_a_cpu_the_storages_held_at_once_are_added_up():
    numbers = torch.zeros(1000)
    assert counted_by() == ON_CPU
    assert peak_bytes(lambda: (numbers + 1) + 2) == 2 * 4000  # the first sum lives until the second is done
    assert peak_bytes(lambda: numbers.view(10, 100)) == 0  # no storage of its own


def test_attention_holds_its_output_and_no_matrix_of_pairs_where_it_is_decomposed_too():
    query = torch.empty(1, 2, 500, 8, device="meta")
    assert trace(lambda: F.scaled_dot_product_attention(query, query, query)).peak_bytes == 4 * query.numel()


class Allocator:
    """Of a GPU that nobody has: 100 bytes held, and 70 more at the worst moment of a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak, self.order = 500, list[str]()
        for name, value in {
            "is_initialized": lambda: True,
            "synchronize": lambda: self.order.append("wait"),
            "reset_peak_memory_stats": self.reset,
            "memory_allocated": lambda: 100,
            "max_memory_allocated": lambda: self.peak,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def reset(self) -> None:
        self.order.append("reset")
        self.peak = 100

    def call(self) -> None:
        self.order.append("call")
        self.peak = 170


def test_on_a_gpu_an_older_peak_does_not_count_and_the_device_is_waited_for(monkeypatch):
    gpu = Allocator(monkeypatch)
    assert memory.counted_by() == ON_GPU
    assert memory.peak_bytes(gpu.call) == 70
    assert gpu.order == ["wait", "reset", "call", "wait"]


@pytest.mark.gpu
def test_a_real_gpu_holds_what_a_call_makes():
    numbers = torch.zeros(2**20, device="cuda")
    assert peak_bytes(lambda: numbers + 1) == 4 * 2**20
