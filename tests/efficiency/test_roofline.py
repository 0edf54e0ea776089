"""Ceilings of this machine, measured; the numbers are checked for their order of magnitude alone."""

import pytest
import torch

from stages.efficiency import roofline
from stages.efficiency.latency import Timing
from stages.efficiency.roofline import ceilings, share


def test_ceilings_are_what_was_done_by_the_median_time(monkeypatch):
    import numpy as np

    monkeypatch.setattr(
        roofline, "interleave", lambda calls, *_, **__: {name: Timing(np.array([2.0])) for name in calls}
    )
    found = ceilings(torch.device("cpu"), torch.float32)
    assert found.dtype == "float32"
    assert found.matmul_flops_per_s == 2 * 1024**3 / 2e-3
    assert found.copy_bytes_per_s == 2 * 2**27 / 2e-3  # read and written


def test_a_real_machine_is_between_a_pocket_calculator_and_a_cluster(monkeypatch):
    monkeypatch.setattr(roofline, "SIDE", {"cpu": 256})
    monkeypatch.setattr(roofline, "COPIED_BYTES", {"cpu": 2**22})
    found = ceilings(torch.device("cpu"), torch.bfloat16)
    assert 1e7 < found.matmul_flops_per_s < 1e15
    assert 1e7 < found.copy_bytes_per_s < 1e14


def test_half_the_work_in_the_time_is_half_the_ceiling():
    assert share(500, 10.0, 1e5) == pytest.approx(0.5)


@pytest.mark.gpu
def test_a_real_gpu_multiplies_bfloat16_faster_than_a_cpu():
    found = ceilings(torch.device("cuda"), torch.bfloat16)
    assert found.matmul_flops_per_s > 2e13
