"""What is said of the machine that measured."""

import subprocess
from types import SimpleNamespace

import pytest
import torch

from stages.efficiency import machine
from stages.efficiency.machine import asked_of_smi, clocks


def test_a_cpu_says_its_model_threads_clock_and_the_commit(tmp_path, monkeypatch):
    info = "".join(f"processor : {i}\nmodel name\t: Fast 9\ncpu MHz\t\t: {mhz}\n" for i, mhz in enumerate((2000, 3000)))
    (tmp_path / "cpuinfo").write_text(info)
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    facts = machine.machine()
    assert facts["cpu"] == "Fast 9, 2 cores"
    assert facts["threads"] == torch.get_num_threads()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert facts["commit"] == (head or None)
    assert clocks()["cpu_mhz"] == 2500


def test_memory_that_the_process_held_is_that_of_a_python_with_torch():
    assert 50e6 < machine.resident_peak_bytes() < 1e12


def test_clocks_of_a_gpu_are_numbers_and_what_is_not_told_is_left_out():
    line = "580.95.05, 1980, 1980, 3201, 122.41, 700.00, [N/A]"
    found = asked_of_smi(line)
    assert found["driver"] == "580.95.05"
    assert (found["sm_clock_mhz"], found["power_w"]) == (1980.0, 122.41)
    assert "temperature_c" not in found
    assert asked_of_smi("") == asked_of_smi("NVIDIA-SMI has failed") == {}


def test_a_gpu_in_use_is_named_with_its_driver(monkeypatch):
    about = SimpleNamespace(name="H200", total_memory=141, uuid="0af")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/bin/nvidia-smi")
    asked: list[list[str]] = []

    def answer(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout="580.1, 1700, 1980, 3201, 99, 700, 41\n")

    monkeypatch.setattr(machine.subprocess, "run", answer)
    assert machine._gpu() == {
        "gpu": "H200", "gpu_memory_bytes": 141, "cuda": torch.version.cuda, "gpu_driver": "580.1"
    }  # fmt: skip
    assert clocks()["sm_clock_mhz"] == 1700
    assert asked[0][1:3] == ["-i", "GPU-0af"]


def test_an_nvidia_smi_that_hangs_or_fails_costs_the_clocks_only(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/bin/nvidia-smi")
    about = SimpleNamespace(uuid="")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)

    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 20)

    monkeypatch.setattr(machine.subprocess, "run", hang)
    assert machine._smi() == ""


@pytest.mark.gpu
def test_a_real_gpu_tells_its_clocks():
    torch.ones(1, device="cuda")
    assert machine.machine()["gpu"] == torch.cuda.get_device_name()
    assert clocks()["sm_clock_mhz"] > 0
