"""On which device a process works: of several GPUs each local process takes another."""

import logging
import multiprocessing

import torch

from stages.core.errors import MachineError

log = logging.getLogger(__name__)


def chosen(device: str) -> torch.device:
    """`auto` and `cuda` by what is here and by the number of this process. Raises MachineError without such a GPU."""
    count = torch.cuda.device_count()
    if device == "auto" and not count:
        log.warning("grounded_sam: no GPU is seen here, so it works on the CPU, some hundred times slower")
    if device == "cpu" or (device == "auto" and not count):
        return torch.device("cpu")
    number = int(device[5:]) if device.startswith("cuda:") else of_process(count)
    if number >= count:
        raise MachineError(
            expected=f"GPU {number} (annotators.grounded_sam.device: {device})",
            got=f"{count} GPUs that torch sees here",
            fix="set device: auto or cpu, or look at CUDA_VISIBLE_DEVICES and the driver with nvidia-smi",
        )
    return torch.device("cuda", number)


def of_process(count: int) -> int:
    """The GPU of this process: workers of a pool have a number from 1 behind their name, others take the first."""
    number = multiprocessing.current_process().name.rpartition("-")[2]
    return (int(number) - 1) % count if number.isdecimal() and count else 0
