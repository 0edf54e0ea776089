"""The processes of a training: one per GPU, started by torchrun or by the stage itself, and DeepSpeed in them.

The stage starts a process per GPU of its machine, so that `dvc repro` uses all of them; on several machines start
`torchrun --nnodes ... -m stages.train_pruner <name>` on each. `gather` and `restore` stand
in for DeepSpeed's own checkpoints, which are pickles and under ZeRO 1 and 2 tied to the number of ranks.
"""

import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.core.errors import ParamsError, TryAgainError
from stages.training import TrainPruner

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[2] / "infra" / "deepspeed"
MOMENTS = ("exp_avg", "exp_avg_sq")
PATIENCE = timedelta(hours=3)  # with rank 0, which alone hashes a cache or measures; NCCL's own is 10 minutes
SAVING_S = 120.0  # after SIGTERM, in which a rank may finish its step and save before it is killed
LAUNCHER = "FASTDRIVE_LAUNCHER"  # process id; it may be gone before a rank first asks


def end_with_launcher() -> None:
    """In a process that torchrun or `launch` started: take the end of that one, also by kill -9, as a SIGTERM.

    Ranks would go on without it, hold their GPUs and write into the folder of the run that comes next.
    """
    if "RANK" in os.environ:
        launcher = int(os.environ.get(LAUNCHER) or os.getppid())
        threading.Thread(target=_follow, args=[launcher], daemon=True).start()


def _follow(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SAVING_S)
    os._exit(TryAgainError.exit_code)  # it hangs, perhaps on a rank that is gone


def ranks() -> int:
    """Return how many processes to start here: FASTDRIVE_RANKS, else one per GPU; 1 inside one of them."""
    if "RANK" in os.environ:
        return 1
    return int(os.environ.get("FASTDRIVE_RANKS", 0)) or torch.cuda.device_count() or 1


def launch(count: int, module: str, *arguments: str) -> None:
    """`python -m module arguments` in `count` processes that find each other; returns when all have ended well.

    Else the process ends with the exit code of the first that failed. Raises TryAgainError on SIGTERM, which the
    processes get too: each saves and ends, within SAVING_S.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    meeting: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "max_restarts": 0}
    config = LaunchConfig(1, 1, count, shutdown_timeout=int(SAVING_S), **meeting)
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code >= 0 else 128 - code)  # killed: as a shell reports it; the flow retries
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        got = f"{error.sigval.name}, passed on to {count} processes"
        fix = "run the same command again; it goes on from the last checkpoint"
        raise TryAgainError(expected=f"{module} to end", got=got, fix=fix) from error


def join_ranks() -> torch.device:
    """Join the processes that torchrun started, or be the only one; returns this rank's device."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if gpu else "gloo"
        if "RANK" in os.environ:
            dist.init_process_group(backend, timeout=PATIENCE)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # no port to be taken
    if dist.get_rank():
        for name in ("stages", "__main__"):
            logging.getLogger(name).setLevel(logging.ERROR)  # rank 0 alone logs
    return device


def batch_per_rank(options: TrainPruner) -> int:
    """Images of a step that this rank takes. Raises ParamsError when they cannot be shared out evenly."""
    world = dist.get_world_size()
    if options.batch_size % world:
        expected = f"train_pruner.batch_size to be a multiple of the {world} ranks"
        fix = "edit train_pruner.batch_size in params.yaml, or start another number of processes"
        raise ParamsError(expected=expected, got=f"{options.batch_size}", fix=fix)
    return options.batch_size // world


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that clips each parameter group to a norm of its own before the step.

    Departure: under one common norm the pruner's straight-through gradient, thousands of times larger at first, leaves
    the decoder nothing (research/embedded.md 3.2). It is done here because DeepSpeed clips all groups by one norm.
    Under ZeRO 1 and 2 a rank holds a slice of each group (`partitioned`): squares are then summed over ranks.
    """

    def __init__(self, groups: list[dict[str, Any]], weight_decay: float, partitioned: bool) -> None:
        """`groups` have a `name` and a `clip_norm` each; None does not clip."""
        super().__init__(groups, weight_decay=weight_decay)
        self.partitioned = partitioned
        self.norms: dict[str, torch.Tensor] = {}  # of each group's gradient in the last step, before clipping

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Clip, then AdamW's step. ZeRO calls this once per group, with the other groups hidden."""
        for group in self.param_groups:
            gradients = [p.grad for p in group["params"] if p.grad is not None]
            squares = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
            if self.partitioned:
                dist.all_reduce(squares)
            norm = squares.sqrt()
            if group["clip_norm"] is not None:
                for gradient in gradients:
                    gradient.mul_((group["clip_norm"] / (norm + 1e-6)).clamp(max=1.0))
            self.norms[group["name"]] = norm
        super().step(closure)


def start(module: nn.Module, optimizer: ClippedAdamW, options: TrainPruner) -> Any:
    """DeepSpeed's engine around a module that stands on this rank's device; infra/deepspeed has its settings."""
    base = json.loads((CONFIGS / f"zero{options.zero_stage}.json").read_text(encoding="utf-8"))
    config = base | {
        "train_batch_size": options.batch_size,
        "train_micro_batch_size_per_gpu": batch_per_rank(options),
        "torch_autocast": {"enabled": options.bf16, "dtype": "bfloat16"},
    }
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        return _deepspeed().initialize(model=module, optimizer=optimizer, config=config)[0]


def gather(engine: Any, optimizer: ClippedAdamW) -> dict[str, Tensor]:
    """Weights and buffers by name, moments as `<moment>/<name>`; called by all ranks, after one step at least."""
    from deepspeed.utils import safe_get_full_optimizer_state

    tensors = {name: tensor.detach() for name, tensor in engine.module.state_dict().items()}
    if optimizer.partitioned:
        _link(engine, optimizer)
    for name, parameter in engine.module.named_parameters():
        for moment in MOMENTS:
            if optimizer.partitioned:  # put together from the parts of all ranks
                tensors[f"{moment}/{name}"] = safe_get_full_optimizer_state(parameter, moment)
            else:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def restore(engine: Any, optimizer: ClippedAdamW, moments: Mapping[str, Tensor], step: int) -> None:
    """Put back the moments of `gather` after `step` steps; weights are loaded before the engine starts.

    Under ZeRO 1 and 2 each rank takes its part of them, whatever the number of ranks that gathered.
    """
    from deepspeed.utils import safe_set_full_optimizer_state

    owners = engine.optimizer.single_partition_of_fp32_groups if optimizer.partitioned else engine.module.parameters()
    for owner in owners:
        empty = {moment: torch.zeros_like(owner) for moment in MOMENTS}
        optimizer.state[owner] = {"step": torch.tensor(float(step)), **empty}
    if optimizer.partitioned:
        _link(engine, optimizer)
    for name, parameter in engine.module.named_parameters():
        for moment in MOMENTS:
            value = moments[f"{moment}/{name}"].to(parameter.device)
            if optimizer.partitioned:
                safe_set_full_optimizer_state(parameter, value, moment)
            else:
                optimizer.state[parameter][moment].copy_(value)


def _link(engine: Any, optimizer: ClippedAdamW) -> None:
    """Link each parameter to its moments in this rank's part.

    DeepSpeed 0.19 does so once, after the step of the first parameter group, when the others have none yet.
    """
    from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state

    zero = engine.optimizer
    for parameters, part in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
        lazy_init_hp_params_optimizer_state(parameters, part, optimizer.state)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """DeepSpeed 0.19 calls what torch 2.13 and later deprecate; nothing that a user could change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"deepspeed|torch|mlflow|pydantic")
        yield


def _deepspeed() -> Any:
    """The module, its accelerator chosen."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "No CUDA runtime is found"
    modules: dict[str, Any] = sys.modules
    unused = modules.setdefault("mlflow", None) is None  # its autotuner would import it, for seconds
    import deepspeed

    if unused:
        del modules["mlflow"]
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__ = {}  # on a CPU it would compile one, for inference, in a minute
    return deepspeed
