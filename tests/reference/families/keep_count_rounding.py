"""How many tokens stay: the paper's floor, guarded against float error; none at all is refused."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from stages.backbone.tokens import keep_count
from stages.core.errors import ParamsError


def check(case: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    assert len(case["table"])
    for N, ratio, _, _, wanted in case["table"].tolist():
        assert kept(int(N), 100 * ratio) == wanted, f"{ratio} of {N}"


def kept(N: int, percent: float) -> int:
    """The count, 0 where it is refused."""
    try:
        return keep_count(N, percent)
    except ParamsError:
        return 0
