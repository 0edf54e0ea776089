"""Which of several equal ways the fast host takes: what drives, and what the benchmark holds beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch.nn.attention import SDPBackend, sdpa_kernel

from stages.vla.fast.pointwise import PLAIN, Pointwise

KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


@dataclass(frozen=True)
class Choices:
    """None of these changes which tokens are answered in fp32. The defaults run everywhere, whatever was measured."""

    pointwise: Pointwise = PLAIN
    one_row: str = "products"  # attention of a new token, of attention.ONE_ROW
    kernel: str | None = None  # of attention over a whole prompt, of KERNELS; None: as torch chooses


SERVED = Choices()  # what drives, and what the goals are judged by


@contextmanager
def preferring(kernel: str | None) -> Iterator[None]:
    """Inside, attention takes `kernel` of `KERNELS` where it can, and what torch takes otherwise."""
    if kernel is None or kernel not in KERNELS:
        yield
        return
    first = KERNELS[kernel]
    others = [other for other in (*KERNELS.values(), SDPBackend.MATH) if other is not first]
    with sdpa_kernel([first, *others], set_priority=True):
        yield
