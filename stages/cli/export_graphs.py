"""The scorer of a ReconPruner as a torch.export program and as ONNX, and how far each is from the pruner."""

import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stages.core.errors import MachineError
from stages.core.io import write_bytes
from stages.pruning.recon import ReconPruner

PROGRAM, ONNX = "scorer.pt2", "scorer.onnx"
OPSET = 20
TRACED = (2, (3, 4))  # images and grid (h, w) that the graphs are traced with; they hold for others
SIZES = ((1, (3, 5)), (2, (14, 24)), (1, (57, 57)))  # at which they are checked: few tokens, many, and the paper's
SEED = 20261127

Run = Callable[[Float[Tensor, "B N D"], int], Float[Tensor, "B N"]]  # of tokens and columns


class Scorer(nn.Module):
    """Scores of a ReconPruner as a function of tensors: graph compilers take no grid that is a Python tuple."""

    def __init__(self, pruner: ReconPruner) -> None:
        super().__init__()
        self.pruner = pruner

    def forward(self, tokens: Float[Tensor, "B N D"], columns: Int[Tensor, ""]) -> Float[Tensor, "B N"]:
        """Return scores of `tokens` in reading order on a grid of `columns` tokens across; higher is kept.

        As `ReconPruner.forward`, whose position ids it makes by arithmetic on N: M-RoPE (t, h, w), counted from 1.
        """
        B, N, _ = tokens.shape
        places = torch.arange(N, device=tokens.device)
        rows = torch.div(places, columns, rounding_mode="floor")
        ids = torch.stack([torch.zeros_like(rows), rows, places - rows * columns]) + 1
        ids = torch.cat([torch.zeros_like(ids[:, :1]), ids], dim=1)[:, None].expand(3, B, N + 1)
        query = self.pruner.query.expand(B, 1, -1)
        fused = self.pruner.layer(torch.cat([query, self.pruner.standardise(tokens)], dim=1), ids)
        return self.pruner.scorer(fused[:, 1:] * fused[:, :1]).squeeze(-1)


def write_program(pruner: ReconPruner, path: Path) -> Run:
    """Write the torch.export program to `path`; return it as read back."""
    with torch.no_grad():
        program = torch.export.export(Scorer(pruner).eval(), _traced(pruner), dynamic_shapes=_shapes())
        data = io.BytesIO()
        torch.export.save(program, data)
        write_bytes(path, data.getvalue())
        module = torch.export.load(path).module()
    return lambda tokens, columns: module(tokens, torch.tensor(columns))


def write_onnx(pruner: ReconPruner, path: Path) -> Run:
    """Write the ONNX graph to `path`; return it as onnxruntime runs it.

    Raises MachineError without the packages of the extra `export`.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise MachineError(
            expected="onnx, onnxscript and onnxruntime", got=str(error), fix="run `pip install 'fastdrivevla[export]'`"
        ) from error
    for library in ("onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.WARNING)
    names: dict[str, Any] = {"input_names": ["tokens", "columns"], "output_names": ["scores"]}
    with torch.no_grad():
        made = torch.onnx.export(
            Scorer(pruner).eval(),
            _traced(pruner),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes=_shapes(),
            **names,
        )
    assert made is not None
    write_bytes(path, made.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def scores(tokens: Float[Tensor, "B N D"], columns: int) -> Float[Tensor, "B N"]:
        inputs = {"tokens": tokens.numpy(), "columns": np.array(columns, np.int64)}
        return torch.from_numpy(session.run(["scores"], inputs)[0])

    return scores


@torch.no_grad()
def differences(pruner: ReconPruner, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Return the largest |difference| of each run's scores from the pruner's own, a row per size, on random tokens.

    The tokens have the mean and deviation that the pruner was trained with.
    """
    random = torch.Generator().manual_seed(SEED)
    rows = []
    for B, (h, w) in SIZES:
        noise = torch.randn(B, h * w, len(pruner.mean), generator=random)
        tokens = noise * pruner.std + pruner.mean
        expected = pruner(tokens, (h, w))
        away = {name: float((run(tokens, w) - expected).abs().max()) for name, run in runs.items()}
        rows.append({"images": B, "grid": [h, w], "tokens": h * w, **away})
    return rows


def _traced(pruner: ReconPruner) -> tuple[Tensor, Tensor]:
    B, (h, w) = TRACED
    return torch.zeros(B, h * w, len(pruner.mean)), torch.tensor(w)


def _shapes() -> dict[str, Any]:
    return {"tokens": {0: torch.export.Dim("B"), 1: torch.export.Dim("N")}, "columns": {}}
