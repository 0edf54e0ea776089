"""Write a trained pruner as a folder that stands alone, once its graphs have been found equal to it."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import DataError, MachineError
from stages.core.io import check_file, read_json, sha256, sync_disk, write_bytes, write_manifest, write_text
from stages.core.params import Params
from stages.export import graphs
from stages.export.card import card
from stages.pruning import checkpoint
from stages.pruning.recon import MADE_BY, build, method_of
from stages.registry.register import provenance

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of a score, which is about 1 large
CARD = "README.md"
MODELS, METRICS = Path("models"), Path("metrics")


def export(source: Path, out: Path, params: Params) -> dict[str, Any]:
    """Write `out`; returns what its manifest says of the graphs. A run that fails leaves nothing.

    Raises DataError for a pruner that is missing or damaged, an `out` that is there already, or graphs whose scores are
    over TOLERANCE from the pruner's; MachineError without the packages of the extra `export`.
    """
    if out.exists():
        then = f"give another folder: `fastdrive export {source} --out {out}-2`"
        raise DataError(expected=f"no {out} yet", got="one that is there", fix=then)
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
    log.info("export: %s, largest difference %.1e", out, notes["largest_difference"])
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
    origin = {key: tags[key] for key in ("git.commit", "params.sha256", "env.lock.sha256", "dvc.md5") if key in tags}
    facts = notes | {"origin": origin, "files": {path.name: sha256(path) for path in files}}
    drawn = ours and params.scenes.oracle_root is not None
    measured = _measured(method) if tags.get("dvc.status") == "clean" else []
    return card(name, method, config, measured, facts, drawn=drawn)


def _tags(source: Path, method: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Where the weights came from, when they are those of this checkout; else nothing."""
    if source.resolve() != (MODELS / method).resolve():
        return {}
    try:
        return provenance(Path.cwd(), method, config)
    except DataError:
        return {}


def _measured(method: str) -> list[dict[str, Any]]:
    """The committed figures of the method by prune ratio, first the unpruned driver's; none where there are none."""
    paths = {name: METRICS / f"{name}.json" for name in ("scores/none", f"scores/{method}", f"efficiency/{method}")}
    if not all(path.is_file() for path in paths.values()):
        return []
    unpruned, scores, costs = (read_json(path, "dvc repro") for path in paths.values())
    rows = {0: unpruned.get("0", {}), **{int(percent): row for percent, row in scores.items()}}
    return [
        {"pruned_percent": percent, **row, "flops_ratio": costs[f"pruned_{percent}"]["with_vision_ratio"]}
        for percent, row in sorted(rows.items())
        if f"pruned_{percent}" in costs
    ]
