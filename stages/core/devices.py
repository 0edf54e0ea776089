"""Which accelerator a process works on: the workers of a pool take the GPUs of a machine in turn."""

import multiprocessing
import re


def turn_of(process: str, gpus: int) -> int:
    """The GPU of a worker by the number that ends its process's name, counted from 1; 0 for a process without one."""
    number = re.search(r"(\d+)$", process)
    return (int(number[1]) - 1) % gpus if number else 0


def own_device() -> str:
    """`cuda:<n>` where there is a GPU, else `cpu`."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{turn_of(multiprocessing.current_process().name, gpus)}" if gpus else "cpu"
