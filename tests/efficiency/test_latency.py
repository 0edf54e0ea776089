"""Interleaved timing and memory with calls whose cost is known; ceilings of the machine."""

import subprocess

import numpy as np
import pytest
import torch

from stages.efficiency import latency
from stages.efficiency.latency import (
    AGAIN,
    aa_spread,
    ceilings,
    differs,
    interleave,
    machine,
    measure,
    measure_ms,
    peak_bytes,
    share,
    speedup,
)  # fmt: skip


def test_every_variant_and_the_second_baseline_are_measured_in_each_round():
    order = []
    timings = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, pairs=3, warmups=0)
    assert order == ["a", "b", "a", "b", "a", "a", "a", "a", "b"]  # a b again | b again a | again a b
    assert {name: len(times) for name, times in timings.items()} == {"a": 3, "b": 3, AGAIN: 3}
    interleave({"a": lambda: order.append("warm")}, pairs=2, warmups=5)
    assert order.count("warm") == 2 * (5 + 2)


def test_a_call_of_half_the_time_is_twice_as_fast(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    now = [0.0]

    def work(ms: float) -> None:
        now[0] += (ms + next(clock) % 2 * 0.1) / 1e3

    timings = latency.interleave({"slow": lambda: work(20), "fast": lambda: work(10)}, pairs=15)
    found = {name: speedup(timings["slow"], timings[name], seed=0) for name in ("fast", AGAIN)}
    assert found["fast"]["ratio"] == pytest.approx(2, abs=0.02)
    assert found["fast"]["low"] <= found["fast"]["ratio"] <= found["fast"]["high"]
    assert found[AGAIN]["ratio"] == pytest.approx(1, abs=0.01)


def test_ratio_is_of_medians_so_one_stall_does_not_move_it():
    baseline, variant = np.array([4.0, 4, 4, 4, 400]), np.array([2.0, 2, 2, 2, 2])
    found = speedup(baseline, variant, seed=0)
    assert found["ratio"] == 2
    assert found["low"] == 2 < 200 == found["high"]  # a resample with three stalls of five is rare, yet in the interval


def speed(ratio: float, low: float, high: float) -> dict[str, float]:
    return {"ratio": ratio, "low": low, "high": high}


def test_a_difference_within_the_spread_of_the_baseline_with_itself_is_none():
    spread = aa_spread(speed(1.02, 0.80, 1.10))
    assert spread == 1.25  # of 0.80, the end that is farther from 1
    assert not differs(speed(1.2, 1.1, 1.3), spread)
    assert differs(speed(1.4, 1.1, 1.6), spread)
    assert differs(speed(0.5, 0.4, 0.6), spread)
    assert not differs(speed(1.4, 0.9, 2.0), spread)  # its own interval holds 1


def test_a_record_has_phases_memory_clocks_and_the_machine():
    numbers = torch.zeros(1000)
    record = measure({"add": {"0": lambda: numbers + 1, "50": lambda: numbers[:500] + 1}}, pairs=2, seed=0)
    assert set(record) == {"machine", "clocks", "phases"}
    phase = record["phases"]["add"]
    assert phase["peak_bytes"] == {"0": None, "50": None}  # of a GPU's allocator
    assert set(phase["timings"]) == {"0", "50", AGAIN}
    assert phase["aa_spread"] >= 1
    assert set(phase["speedups"]["50"]) == {"ratio", "low", "high", "differs"}
    assert set(record["clocks"]) == {"before", "after"}


def test_a_record_says_which_machine_and_commit_it_is_of(tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("".join(f"processor : {i}\nmodel name\t: Fast 9\n" for i in range(2)))
    monkeypatch.setattr(latency, "CPU_INFO", tmp_path / "cpuinfo")
    facts = machine()
    assert (facts["cpu"], facts["threads"]) == ("Fast 9, 2 cores", torch.get_num_threads())
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert facts["commit"] == (head or None)


def test_ceilings_are_what_was_done_by_the_median_time(monkeypatch):
    monkeypatch.setattr(latency, "interleave", lambda calls, *_, **__: {name: np.array([2.0]) for name in calls})
    found = ceilings(torch.device("cpu"), torch.float32)
    assert found["dtype"] == "float32"
    assert found["matmul_flops_per_s"] == 2 * 1024**3 / 2e-3
    assert found["copy_bytes_per_s"] == 2 * 2**27 / 2e-3  # read and written
    assert share(500, 10.0, 1e5) == pytest.approx(0.5)


class Event:
    """A CUDA event on a stream whose clock `now` is."""

    now = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Event.now

    def synchronize(self) -> None:
        Event.now += 100  # the host's wait is no time of the call

    def elapsed_time(self, end: "Event") -> float:
        return end.at - self.at


def test_on_a_gpu_events_around_the_call_are_read_after_the_device_is_done(monkeypatch):
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("idle first"))
    monkeypatch.setattr(torch.cuda, "Event", Event)

    def call() -> None:
        order.append("call")
        Event.now += 7

    assert measure_ms(call) == 7
    assert order == ["idle first", "call"]


@pytest.mark.gpu
def test_a_real_gpu_is_timed_to_the_end_of_its_work_and_holds_what_a_call_makes():
    square = torch.randn(4096, 4096, device="cuda")
    one, ten = (min(measure_ms(lambda n=n: [square @ square for _ in range(n)]) for _ in range(5)) for n in (1, 10))
    assert ten > 5 * one
    numbers = torch.zeros(2**20, device="cuda")
    assert machine()["gpu"] == torch.cuda.get_device_name()
    assert peak_bytes(lambda: numbers + 1) == 4 * 2**20
    assert ceilings(torch.device("cuda"), torch.bfloat16)["matmul_flops_per_s"] > 2e13
