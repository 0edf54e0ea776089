"""What a training run keeps an eye on: memory, numbers that are none, a collapse, SIGTERM."""

import logging
import math
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

from stages.core.errors import ParamsError, TryAgainError
from stages.training.data import Batch

log = logging.getLogger(__name__)

COLLAPSED_STEPS = 50  # in a row with (almost) all or none of the tokens kept, before a word about it
NAMED = 8  # images that an error names


def memory_gb(device: torch.device) -> float:
    """Most memory held so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def require_finite(what: str, value: float, batch: Batch, names: Sequence[str]) -> None:
    """Raise ParamsError naming images (`names`, sample_data tokens of `batch`) unless `value` is a number.

    Those whose visual tokens are none, where there are such on any rank, else all of the batch. Called by all ranks
    with the same value, or by one alone that is the only one.
    """
    if math.isfinite(value):
        return
    finite = torch.isfinite(batch.tokens).flatten(1).all(dim=1).tolist()
    suspects = [name for name, whole in zip(names, finite, strict=True) if not whole]
    gathered: list[tuple[list[str], list[str]]] = [([], [])] * dist.get_world_size()
    dist.all_gather_object(gathered, (suspects, list(names)))
    broken, every = ([name for part in parts for name in part] for parts in zip(*gathered, strict=True))
    shown = broken or every
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    log.error("%s is %s from the images %s", what, value, ", ".join(shown))
    raise ParamsError(
        expected=f"a finite {what}",
        got=f"{value}, from the images {', '.join(shown[:NAMED])}{more}",
        fix="look at these images: the vision tower makes no numbers of them"
        if broken
        else "lower train_pruner.pruner_lr or train_pruner.decoder_lr in params.yaml",
    )


def watch_collapse(keep_share: float, steps_before: int) -> int:
    """How many steps in a row (almost) all or none of the tokens were kept; says once which knob to turn."""
    steps = steps_before + 1 if not 0.02 <= keep_share <= 0.98 else 0
    if steps == COLLAPSED_STEPS:
        lowers = "train_pruner.alpha (the background branch is what lowers scores; it needs train_pruner.adversarial)"
        knob = lowers if keep_share > 0.5 else "train_pruner.pruner_lr"
        log.warning("keep share %.2f for %d steps: lower %s", keep_share, steps, knob)
    return steps


def watch_ranking(auc: float | None, steps: int) -> None:
    """Say when background outranks foreground on held-out images after an epoch in which the pruner, too, took steps.

    Keeping the background is the other local minimum of Eq. 8: the decoder can tell from what is missing, and the loss
    stays above that of the right order. Which one a run falls into is decided in its first steps.
    """
    if steps > 0 and auc is not None and auc < 0.5:
        log.warning(
            "background outranks foreground (AUC %.2f): raise train_pruner.decoder_first_steps or change its seed", auc
        )


@contextmanager
def terminations() -> Iterator[list[int]]:
    """A list that SIGTERM adds to (pre-emption, a scheduler's end of time) in the place of ending the process."""
    seen: list[int] = []
    with _on_sigterm(lambda number, _: seen.append(number)):
        yield seen


@contextmanager
def try_again_on_sigterm(what: str) -> Iterator[None]:
    """Inside, SIGTERM raises TryAgainError at once: for work of which nothing, or only the unit in hand, is lost."""

    def stop(*_: object) -> None:
        raise _Terminated

    try:
        with _on_sigterm(stop):
            yield
    except _Terminated:
        then = "run the same command again; it goes on from what is whole"
        raise TryAgainError(expected=what, got="SIGTERM", fix=then) from None


class _Terminated(BaseException):
    """No Exception: what catches errors of its own work (a damaged file, a lost server) must not catch this."""


@contextmanager
def _on_sigterm(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
