"""The folder of `fastdrive export`: weights, config, model card, the scorer as graphs checked against the pruner."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stages.core.errors import DataError, MachineError
from stages.core.io import atomic_write, check_file, read_json, sha256, write_bytes, write_manifest, write_text
from stages.core.params import Params
from stages.planning.tables import to_markdown
from stages.pruning import checkpoint
from stages.pruning.recon import MADE_BY, ReconPruner, build, method_of
from stages.registry.register import model_card, provenance

PROGRAM, ONNX = "scorer.pt2", "scorer.onnx"
OPSET = 20
DYNAMIC = {"tokens": {0: torch.export.Dim("B"), 1: torch.export.Dim("N")}, "columns": {}}
SIZES = ((1, (3, 5)), (2, (14, 24)), (1, (57, 57)))  # at which they are checked: few tokens, many, and the paper's
Run = Callable[[Float[Tensor, "B N D"], int], Float[Tensor, "B N"]]  # of tokens and columns
TOLERANCE = 1e-4  # of a score, which is about 1 large
ORIGIN = ("git.commit", "params.sha256", "env.lock.sha256", "dvc.md5")

MEASURED = {
    "pruned %": "{pruned_percent}",
    "N": "{n}",
    "L2 avg. cm": "{l2_cm_avg:.1f}",
    "Collision avg. %": "{collision_pct_avg:.2f}",
    "Intersection avg. %": "{intersection_pct_avg:.2f}",
    "FLOPs, unpruned / pruned": "{flops_ratio:.2f}",
}
NOTHING = (
    "None: these are not the weights that `dvc.lock` of this checkout names for `models/<pruner>`, so nothing that was "
    "measured is known to be of them."
)
LIMITS = """\
- The scores are right for the tokens of one vision encoder alone, at about the image size named below; `fastdrive.load`
  refuses another encoder, the two graphs cannot.
- The graphs give scores; the caller keeps the K = floor(N (1 - p)) highest, in reading order, with their own position
  ids. They were compared on the CPU in float32, on drawn tokens, at the sizes below and at no others.
- The FLOPs are a closed form at the shapes of Qwen2.5-VL-3B, not a measured time."""
GRAPHS = f"""\
`scorer.pt2` (torch.export) and `scorer.onnx` (opset {OPSET}) take `tokens` (B, N, {{width}}) float32, what the vision
tower's merger gives, in reading order, and `columns`, an int64 scalar, the tokens across the image; they give `scores`
(B, N), higher is kept. B and N are free. Largest difference from the PyTorch module (at most {TOLERANCE:.0e} was
asked):

{{parity}}"""
TERMS = """\
Before passing on these weights read the file LICENSE of Qwen/Qwen2.5-VL-3B-Instruct ("Qwen RESEARCH LICENSE AGREEMENT":
research or evaluation only) and the nuScenes terms of use, both named below."""
LOAD = """\
pruner = fastdrive.load("{name}")  # reads model.safetensors and config.json; runs no code of the folder
with fastdrive.prune(model, pruner, percent=50):
    model.generate(**inputs)

scores = torch.export.load("{name}/scorer.pt2").module()(tokens, torch.tensor(columns))
scores = onnxruntime.InferenceSession("{name}/scorer.onnx").run(None, {{"tokens": tokens, "columns": columns}})[0]"""
FRONT = """\
---
license: other
license_name: qwen-research-and-cc-by-nc-sa-4.0
library_name: pytorch
tags: [token-pruning, vision-language-action, qwen2_5_vl, nuscenes]
---"""


@torch.no_grad()
def export(source: Path, out: Path, params: Params) -> dict[str, Any]:
    """Write `out`; return what its manifest says of the graphs. A run that fails leaves nothing.

    Raises DataError for a pruner that is missing or damaged, an `out` that is there already, or graphs whose scores are
    over TOLERANCE from the pruner's; MachineError without the packages of the extra `export`.
    """
    if out.exists():
        fix = f"give another folder: `fastdrive export {source} --out {out}-2`"
        raise DataError(expected=f"no {out} yet", got="a folder that exists", fix=fix)
    pruner, config = checkpoint.load(source, build, MADE_BY)
    pruner.eval().requires_grad_(False)
    work = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        for name in (checkpoint.WEIGHTS, checkpoint.CONFIG):
            write_bytes(work / name, check_file(source, name, MADE_BY).read_bytes())
        runs = write_graphs(pruner, work)
        parity = differences(pruner, runs)
        largest = max(row[name] for row in parity for name in runs)
        if not largest <= TOLERANCE:  # NaN, too
            fix = f"train it anew (`{MADE_BY}`), or report it with the versions that `pip list` prints"
            expected = f"graphs whose scores are within {TOLERANCE:.0e} of the pruner's"
            raise DataError(expected=expected, got=f"{largest:.1e}", fix=fix)
        notes = {"parity": parity, "largest_difference": largest, "tolerance": TOLERANCE, "opset": OPSET}
        files = [work / name for name in (checkpoint.WEIGHTS, checkpoint.CONFIG, PROGRAM, ONNX)]
        write_text(work / "README.md", card(out.name, source, config, params, parity, files))
        write_manifest(work, [*files, work / "README.md"], {"kind": type(pruner).__name__, "graphs": notes})
        os.sync()
        os.rename(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return notes


def card(
    name: str, source: Path, config: dict[str, Any], params: Params, parity: list[dict[str, Any]], files: Sequence[Path]
) -> str:
    """Return the model card. Figures are in it where DVC finds them to be of these weights."""
    method, scenes = method_of(config), config.get("scenes", {})
    ours = scenes.get("version") == params.scenes.version and params.scenes.train_split in str(scenes.get("split"))
    tags: dict[str, str] = {}
    if source.resolve() == Path("models", method).resolve():
        with suppress(DataError):  # weights of another checkout
            tags = provenance(Path.cwd(), method, config)
    measured = _measured(method) if tags.get("dvc.status") == "clean" else []
    sections = {
        "Limits": LIMITS,
        "Results": to_markdown(measured, MEASURED) if measured else NOTHING,
        "Graphs": GRAPHS.format(width=config["layer"]["width"], parity=to_markdown(parity)),
        "Terms": TERMS,
    }
    load, drawn = LOAD.format(name=name), ours and params.scenes.oracle_root is not None
    origin = {key: tags[key] for key in ORIGIN if key in tags}
    origin |= {f"{path.name} (sha256)": sha256(path) for path in files}
    return f"{FRONT}\n\n{model_card(name, method, config, sections, load=load, origin=origin, drawn=drawn)}"


def _measured(method: str) -> list[dict[str, Any]]:
    """Return the committed figures of the method by prune ratio, first the unpruned driver's."""
    try:
        scores, costs = (read_json(Path(f"metrics/{name}.json"), "dvc repro") for name in ("scores", "efficiency"))
        rows = {0: scores["none"]["0"], **{int(percent): row for percent, row in scores[method].items()}}
        ratios = {percent: costs[method][f"pruned_{percent}"]["with_vision_ratio"] for percent in rows}
    except (DataError, KeyError):  # not measured yet
        return []
    return [{"pruned_percent": p, **row, "flops_ratio": ratios[p]} for p, row in sorted(rows.items())]


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


def write_graphs(pruner: ReconPruner, folder: Path) -> dict[str, Run]:
    """Write the scorer as torch.export program and ONNX graph; return both as read back. MachineError without onnx."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        fix = "run `pip install 'fastdrivevla[export]'`"
        raise MachineError(expected="onnx, onnxscript and onnxruntime", got=str(error), fix=fix) from error
    for library in ("onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.WARNING)
    traced = torch.zeros(2, 12, len(pruner.mean)), torch.tensor(4)  # the graphs hold for other sizes
    program = torch.export.export(Scorer(pruner).eval(), traced, dynamic_shapes=DYNAMIC)
    with atomic_write(folder / PROGRAM) as file:
        torch.export.save(program, file)
    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        dynamic_shapes=DYNAMIC,  # names the axes
        input_names=["tokens", "columns"],
        output_names=["scores"],
    )
    assert made is not None
    write_bytes(folder / ONNX, made.model_proto.SerializeToString())
    module = torch.export.load(folder / PROGRAM).module()
    session = onnxruntime.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])

    def by_onnx(tokens: Float[Tensor, "B N D"], columns: int) -> Float[Tensor, "B N"]:
        inputs = {"tokens": tokens.numpy(), "columns": np.array(columns, np.int64)}
        return torch.from_numpy(session.run(["scores"], inputs)[0])

    return {"torch_export": lambda tokens, columns: module(tokens, torch.tensor(columns)), "onnx": by_onnx}


def differences(pruner: ReconPruner, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Return the largest |difference| of each run's scores from the pruner's, a row per size, on random tokens."""
    random = torch.Generator().manual_seed(20261127)
    rows = []
    for B, (h, w) in SIZES:
        noise = torch.randn(B, h * w, len(pruner.mean), generator=random)
        tokens = noise * pruner.std + pruner.mean
        expected = pruner(tokens, (h, w))
        away = {name: float((run(tokens, w) - expected).abs().max()) for name, run in runs.items()}
        rows.append({"images": B, "grid": [h, w], "tokens": h * w, **away})
    return rows
