"""The folder of `fastdrive export`: weights, config, model card, the scorer as graphs checked against the pruner."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.cli import export_graphs as graphs
from stages.core.errors import DataError, MachineError
from stages.core.io import check_file, read_json, sha256, sync_disk, write_bytes, write_manifest, write_text
from stages.core.params import Params
from stages.planning.tables import to_markdown
from stages.pruning import checkpoint
from stages.pruning.recon import MADE_BY, build, method_of
from stages.registry.card import DRAWN, LICENCES, METHODS, REAL, USE

TOLERANCE = 1e-4  # of a score, which is about 1 large
CARD = "README.md"
METRICS = Path("metrics")
ORIGIN = ("git.commit", "params.sha256", "env.lock.sha256", "dvc.md5")

MEASURED = {
    "pruned %": "{pruned_percent}",
    "N": "{n}",
    "L2 avg. cm": "{l2_cm_avg:.1f}",
    "Collision avg. %": "{collision_pct_avg:.2f}",
    "Intersection avg. %": "{intersection_pct_avg:.2f}",
    "FLOPs, unpruned / pruned": "{flops_ratio:.2f}",
}
PARITY = {
    "images": "{images}",
    "grid (h, w)": "{grid}",
    "tokens": "{tokens}",
    "torch.export": "{torch_export:.1e}",
    "ONNX": "{onnx:.1e}",
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
GRAPHS = """\
`scorer.pt2` (torch.export) and `scorer.onnx` (opset {opset}) take `tokens` (B, N, {width}) float32, what the vision
tower's merger gives, in reading order, and `columns`, an int64 scalar, the tokens across the image; they give `scores`
(B, N), higher is kept. B and N are free. Largest difference from the PyTorch module (at most {tolerance:.0e} was
asked):"""
TEXTS = """\
Their texts: the file LICENSE of Qwen/Qwen2.5-VL-3B-Instruct ("Qwen RESEARCH LICENSE AGREEMENT": research or evaluation
only) and the nuScenes terms of use. Read them before passing on weights that were trained on either."""
LOAD = """\
```python
pruner = fastdrive.load("{name}")  # reads model.safetensors and config.json; runs no code of the folder
with fastdrive.prune(model, pruner, percent=50):
    model.generate(**inputs)

scores = torch.export.load("{name}/scorer.pt2").module()(tokens, torch.tensor(columns))
scores = onnxruntime.InferenceSession("{name}/scorer.onnx").run(None, {{"tokens": tokens, "columns": columns}})[0]
```"""
FRONT = """\
---
license: other
license_name: qwen-research-and-cc-by-nc-sa-4.0
library_name: pytorch
tags: [token-pruning, vision-language-action, qwen2_5_vl, nuscenes]
---"""


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
    shutil.rmtree(work, ignore_errors=True)
    try:
        for name in (checkpoint.WEIGHTS, checkpoint.CONFIG):
            write_bytes(work / name, check_file(source, name, MADE_BY).read_bytes())
        runs = {
            "torch_export": graphs.write_program(pruner, work / graphs.PROGRAM),
            "onnx": graphs.write_onnx(pruner, work / graphs.ONNX),
        }
        notes = _notes(graphs.differences(pruner, runs))
        files = [work / name for name in (checkpoint.WEIGHTS, checkpoint.CONFIG, graphs.PROGRAM, graphs.ONNX)]
        write_text(work / CARD, _card(out.name, source, config, params, notes, files=files))
        write_manifest(work, [*files, work / CARD], {"kind": type(pruner).__name__, "graphs": notes})
        sync_disk()
        os.rename(work, out)
    except FileNotFoundError as error:
        raise MachineError(expected=f"a folder {out.parent}", got=str(error), fix=f"`mkdir -p {out.parent}`") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return notes


def _notes(parity: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    largest = max(row[name] for row in parity for name in ("torch_export", "onnx"))
    if not largest <= TOLERANCE:  # NaN, too
        raise DataError(
            expected=f"graphs whose scores are within {TOLERANCE:.0e} of the pruner's",
            got=f"{largest:.1e}",
            fix=f"train it anew (`{MADE_BY}`), or report it with the versions that `pip list` prints",
        )
    return {"parity": list(parity), "largest_difference": largest, "tolerance": TOLERANCE, "opset": graphs.OPSET}


def _card(
    name: str, source: Path, config: dict[str, Any], params: Params, notes: dict[str, Any], *, files: Sequence[Path]
) -> str:
    method, scenes = method_of(config), config.get("scenes", {})
    ours = scenes.get("version") == params.scenes.version and params.scenes.train_split in str(scenes.get("split"))
    tags = _tags(source, method, config)
    origin = {key: tags[key] for key in ORIGIN if key in tags}
    facts = notes | {"origin": origin, "files": {path.name: sha256(path) for path in files}}
    drawn = ours and params.scenes.oracle_root is not None
    measured = _measured(method) if tags.get("dvc.status") == "clean" else []  # else the figures are of other weights
    return card(name, method, config, measured, facts, drawn=drawn)


def _tags(source: Path, method: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Return where the weights came from when they are those of this checkout; else nothing."""
    from stages.registry.register import provenance  # imports MLflow

    if source.resolve() != Path("models", method).resolve():
        return {}
    try:
        return provenance(Path.cwd(), method, config)
    except DataError:
        return {}


def _measured(method: str) -> list[dict[str, Any]]:
    """Return the committed figures of the method by prune ratio, first the unpruned driver's."""
    try:
        scores, costs = (read_json(METRICS / f"{name}.json", "dvc repro") for name in ("scores", "efficiency"))
        rows = {0: scores["none"]["0"], **{int(percent): row for percent, row in scores[method].items()}}
        costs = costs[method]
    except (DataError, KeyError):  # not measured yet
        return []
    return [
        {"pruned_percent": percent, **row, "flops_ratio": costs[f"pruned_{percent}"]["with_vision_ratio"]}
        for percent, row in sorted(rows.items())
        if f"pruned_{percent}" in costs
    ]


def card(
    name: str,
    method: str,
    config: Mapping[str, Any],
    measured: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    *,
    drawn: bool,
) -> str:
    """Return the model card in Markdown. `measured`: rows by prune ratio; `facts`: parity, opset, tolerance,
    files (name: sha256); `drawn`: the world it learned from is drawn.
    """
    scenes, view = config.get("scenes", {}), config.get("view", {})
    origin = {
        "images learned from": f"{scenes.get('images')} of split {scenes.get('split')}, {scenes.get('version')}",
        "image size": f"{view.get('size_px')} px, {view.get('fit')}",
        "vision encoder": config.get("encoder"),
        "masks (sha256 of the manifest)": config.get("masks"),
        **facts["origin"],
        **{f"{file} (sha256)": digest for file, digest in facts["files"].items()},
    }
    graphs = GRAPHS.format(opset=facts["opset"], width=config["layer"]["width"], tolerance=facts["tolerance"])
    parts = [
        FRONT,
        f"# {name}\n\n{METHODS.get(method, method)}.",
        f"## Use\n\n{USE}",
        f"## Limits\n\n{LIMITS}",
        f"## Results\n\n{to_markdown(measured, MEASURED) if measured else NOTHING}",
        f"## Data and licences\n\n{DRAWN if drawn else REAL}\n\n{LICENCES}\n\n{TEXTS}",
        f"## Graphs\n\n{graphs}\n\n{to_markdown(facts['parity'], PARITY)}",
        f"## Load\n\n{LOAD.format(name=name)}",
        "## Where it came from\n\n" + to_markdown([{"what": key, "value": f"`{at}`"} for key, at in origin.items()]),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
