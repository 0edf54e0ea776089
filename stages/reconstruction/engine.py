"""The training loop on DeepSpeed (the only file that imports it): one process, or several started by torchrun."""

import contextlib
import fcntl
import io
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from stages.errors import MachineError, ParamsError
from stages.progress import progress
from stages.reconstruction import resume
from stages.reconstruction.data import Batch, Samples, draw
from stages.reconstruction.evaluation import Row, evaluate, losses
from stages.reconstruction.model import Reconstruction
from stages.reconstruction.optimizer import ClippedAdamW, rate_share
from stages.reconstruction.options import TrainPruner

log = logging.getLogger(__name__)

Record = Callable[[dict[str, float], int], None]
CONFIGS = Path(__file__).parents[2] / "infra" / "deepspeed"
EVALUATIONS = 4  # on the held-out images, evenly over the run, besides the one before it
COLLAPSED_STEPS = 50  # in a row with (almost) all or none of the tokens kept, before a word about it


class Trainer:
    """A run of `options.steps` steps that may be killed at any time and then goes on to the same weights (on CPU)."""

    def __init__(self, module: Reconstruction, options: TrainPruner, folder: Path) -> None:
        self.module, self.options, self.folder = module, options, folder
        self.device = join_ranks()
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if options.batch_size % self.world:
            raise ParamsError(
                wanted=f"train_pruner.batch_size to be a multiple of the {self.world} ranks",
                came=f"{options.batch_size}",
                then="edit train_pruner.batch_size in params.yaml, or start another number of processes",
            )
        self.step, self.history, self._collapsed = 0, list[Row](), 0
        groups = [
            {"name": "pruner", "params": list(module.pruner.parameters()), "peak_lr": options.pruner_lr},
            {"name": "decoder", "params": list(module.decoder.parameters()), "peak_lr": options.decoder_lr},
        ]
        self._optimizer = ClippedAdamW(groups, options.weight_decay, options.clip_norm, options.zero_stage > 0)
        with _quiet(), contextlib.redirect_stdout(io.StringIO()):
            self._engine, *_ = _deepspeed().initialize(
                model=module.to(self.device), optimizer=self._optimizer, config=self._config()
            )

    def _config(self) -> dict[str, Any]:
        base = json.loads((CONFIGS / f"zero{self.options.zero_stage}.json").read_text(encoding="utf-8"))
        return base | {
            "train_batch_size": self.options.batch_size,
            "train_micro_batch_size_per_gpu": self.options.batch_size // self.world,
            "torch_autocast": {"enabled": self.options.bf16, "dtype": "bfloat16"},
        }

    def resume(self, tag: str | None) -> None:
        """Take up the state of checkpoint `tag`, when there is one.

        Raises MachineError when it is of another number of ranks, which ZeRO 1 and 2 cannot read.
        """
        if tag is None:
            return
        world = resume.world_of(self.folder, tag)
        if self.options.zero_stage and world != self.world:
            raise MachineError(
                wanted=f"{world} ranks, as the ZeRO-{self.options.zero_stage} checkpoint {self.folder / tag} has",
                came=f"{self.world}",
                then=f"start {world} processes, or remove {self.folder} to train from the beginning",
            )
        with _quiet():
            _, state = self._engine.load_checkpoint(str(self.folder), tag=tag)
        self.step, self.history, self._collapsed = state["step"], state["history"], state["collapsed"]

    def run(self, samples: Samples, held_out: Samples, record: Record) -> list[Row]:
        """Train to the last step; returns the history, a row per step and per evaluation.

        `record` gets the numbers of each step. Raises ParamsError naming the step when the loss is not finite.
        """
        steps, size = self.options.steps, self.options.batch_size // self.world
        mine = slice(self.rank * size, (self.rank + 1) * size)
        todo = range(self.step, steps)
        orders = (draw(len(samples), self.options.seed, step, self.options.batch_size)[mine] for step in todo)
        if self.step == 0:
            self._evaluate(held_out, record)
        saved_s = time.monotonic()
        with _quiet():
            for batch in progress(samples.batches(orders), steps, "train_pruner", self.step):
                due = self._learn(batch.to(self.device), samples.grid, record, saved_s)
                if self.step % math.ceil(steps / EVALUATIONS) == 0 or self.step == steps:
                    self._evaluate(held_out, record)
                if due or self.step == steps:
                    self._save()
                    saved_s = time.monotonic()
        return self.history

    def _learn(self, batch: Batch, grid: tuple[int, int], record: Record, saved_s: float) -> bool:
        """One step; returns whether rank 0 wants a checkpoint, the same answer on every rank."""
        began_s = time.monotonic()
        share = rate_share(self.step, self.options.steps, self.options.warmup_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = share * group["peak_lr"]
        rebuilt = self._engine(batch.tokens, grid)
        total, fore, back = losses(rebuilt, batch, self.options)
        due = float(self.rank == 0 and began_s - saved_s > self.options.checkpoint_every_s)
        means = torch.stack([total, fore, back, rebuilt.keep.mean(), total.new_tensor(due)]).detach()
        dist.all_reduce(means)
        *values, due = (means / self.world).tolist()
        measured = dict(zip(("loss", "loss_fore", "loss_back", "keep_share"), values, strict=True))
        self._check(measured)
        self._engine.backward(total)
        self._engine.step()
        self.step += 1
        for group in self._optimizer.param_groups:
            measured[f"{group['name']}_grad_norm"] = float(self._optimizer.norms[group["name"]])
            measured[f"{group['name']}_lr"] = group["lr"]
        self.history.append({"step": self.step, "split": "train", **measured})
        images_per_s = self.options.batch_size / (time.monotonic() - began_s)
        record({**measured, "images_per_s": images_per_s}, self.step)
        return due > 0

    def _check(self, measured: dict[str, float]) -> None:
        """Stop on a loss that is no number; say so when the hard mask has collapsed."""
        if not math.isfinite(measured["loss"]):
            raise ParamsError(
                wanted=f"a finite loss at step {self.step + 1}",
                came=f"{measured['loss']}",
                then="lower train_pruner.pruner_lr or decoder_lr in params.yaml",
            )
        keep_share = measured["keep_share"]
        self._collapsed = self._collapsed + 1 if not 0.02 <= keep_share <= 0.98 else 0
        if self._collapsed == COLLAPSED_STEPS:
            knob = (
                "train_pruner.alpha (the background branch is what lowers scores)" if keep_share > 0.5 else "pruner_lr"
            )
            log.warning("keep share %.2f for %d steps: lower %s", keep_share, COLLAPSED_STEPS, knob)

    def _evaluate(self, held_out: Samples, record: Record) -> None:
        if self.rank == 0:
            measured = evaluate(self.module, held_out, self.options)
            self.history.append({"step": self.step, "split": "held_out", **measured})
            record({f"held_out_{name}": value for name, value in measured.items()}, self.step)
            log.info("step %d held out: %s", self.step, ", ".join(f"{k} {v:.3f}" for k, v in measured.items()))

    def _save(self) -> None:
        tag, state = (
            resume.tag_of(self.step),
            {"step": self.step, "history": self.history, "collapsed": self._collapsed},
        )
        with resume.room_in(self.folder / tag):
            self._engine.save_checkpoint(str(self.folder), tag=tag, client_state=state, save_latest=False)
        dist.barrier()
        if self.rank == 0:
            resume.prove(self.folder, tag, self.world)


def join_ranks() -> torch.device:
    """Join the processes that torchrun started, or be the only one; returns this rank's device."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if gpu else "gloo"
        if "RANK" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # no port to be taken
    if dist.get_rank():
        logging.getLogger("stages").setLevel(logging.WARNING)  # one rank tells the story
    return device


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """DeepSpeed 0.19 calls what torch 2.13 and later deprecate; nothing of that is the user's to mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"deepspeed|torch|mlflow|pydantic")
        yield


def _deepspeed() -> Any:
    """The module, its accelerator chosen and its compiled helper at hand. Raises MachineError without a compiler."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for ninja
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "No CUDA runtime is found"
    unused = {"mlflow": None} if "mlflow" not in sys.modules else {}  # its autotuner would import it, for seconds
    sys.modules.update(unused)  # type: ignore[arg-type]
    import deepspeed

    for name in unused:
        del sys.modules[name]
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if os.environ["DS_ACCELERATOR"] == "cpu":
        _build_helper(deepspeed)
    return deepspeed


def _build_helper(deepspeed: Any) -> None:
    """Compile DeepSpeed's shared-memory helper before the ranks meet, one process of the machine at a time.

    torch marks a build by a file that a killed process leaves behind, and then waits for it for ever. Our own lock ends
    with its process: whoever holds it may remove that file.
    """
    from torch.utils.cpp_extension import get_default_build_root

    builder = deepspeed.accelerator.get_accelerator().create_op_builder("ShareMemCommBuilder")
    version = f"py{sys.version_info.major}{sys.version_info.minor}_torch{torch.__version__}"
    root = Path(
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(get_default_build_root()) / "fastdrive" / version))
    )
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "fastdrive.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (root / builder.NAME / "lock").unlink(missing_ok=True)
        if not list((root / builder.NAME).glob("*.so")):
            log.info("compiling DeepSpeed's CPU helper with g++ and ninja: about a minute, once on this machine")
        try:
            builder.load(verbose=False)
        except (RuntimeError, OSError) as error:
            raise MachineError(
                wanted="g++ and ninja, with which DeepSpeed compiles its CPU helper",
                came=str(error).splitlines()[0],
                then="install g++ (Debian: apt-get install g++); ninja comes with requirements.lock",
            ) from error
