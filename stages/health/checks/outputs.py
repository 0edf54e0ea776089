"""Whether what stages made is whole: every manifest, and every output as dvc.lock has it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core.errors import DataError
from stages.core.io import MANIFEST, read_json, read_manifest, sha256
from stages.core.provenance import locked
from stages.health.finding import DATA, Finding
from stages.health.working import is_shared, stages_now

# Folders that are whole when their manifest says so, and what makes each.
SEALED = {
    "data/world": "dvc repro make_world",
    "data/world_oracle": "dvc repro make_world",
    "data/masks": "dvc repro generate_masks",
    "models/driver": "git checkout models/driver",
    "models/*": "dvc repro train_pruner@{name}",
    "results/training/*": "dvc repro train_pruner@{name}",
}
CHECKPOINTS, CACHES = "runs/train_pruner/[!.]*/step_*", "runs/tokens/*"  # what a run keeps for itself


def check(root: Path) -> Iterator[Finding]:
    """A finding for each folder without manifest or with other bytes, and for outputs that dvc.lock does not know."""
    working = stages_now(root)
    if working:
        yield Finding("outputs", "unknown", f"{', '.join(working)} runs now", fix="`fastdrive doctor` when it is done")
        return
    faults = [*_sealed(root), *_kept(root)]
    yield from faults
    entries = [(stage, out) for stage, entry in locked(root).items() for out in entry.get("outs", [])]
    here = [(stage, out) for stage, out in entries if (root / out["path"]).exists()]
    other = {stage: out["path"] for stage, out in here if _size(root / out["path"]) != out.get("size")}
    if other:
        shown = ", ".join(list(other.values())[:3]) + ", ..." * (len(other) > 3)
        came = f"{len(other)} of another size than dvc.lock says (edited, stopped, of another run): {shown}"
        then = f"`dvc repro {' '.join(list(other)[:3])}`" if len(other) < 4 else "`make reproduce`"
        yield Finding("outputs", "warn", came, "outputs as DVC left them", then, code=DATA)
    if not faults and not other:
        absent = len(entries) - len(here)
        then = "`make reproduce`" if absent else ""
        yield Finding("outputs", "ok", f"{len(here)} outputs are whole, {absent} not made here", fix=then)


def _sealed(root: Path) -> Iterator[Finding]:
    seen: set[Path] = set()
    for pattern, made_by in SEALED.items():
        for folder in sorted(path for path in root.glob(pattern) if path.is_dir() and path not in seen):
            seen.add(folder)
            name = folder.relative_to(root)
            # A folder that is not made by us (released weights) has no manifest, and dvc.lock does not name it.
            if pattern == "models/*" and not _is_output(root, str(name)):
                continue
            if fault := _fault(folder, command := made_by.format(name=folder.name)):
                yield Finding("outputs", "bad", fault, f"{name} whole, by its manifest", f"`{command}`", code=DATA)


def fix(root: Path) -> Iterator[str]:
    """Remove checkpoints whose writing was cut short: training passes over them, and none is ever loaded."""
    for folder in [] if stages_now(root) or is_shared(root) else _unfinished(root):
        shutil.rmtree(folder)
        yield f"outputs: removed {folder.relative_to(root)}"


def _unfinished(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob(CHECKPOINTS)) if path.is_dir() and not (path / MANIFEST).is_file()]


def _kept(root: Path) -> Iterator[Finding]:
    unfinished = _unfinished(root)
    for folder in unfinished:
        came = f"{folder.relative_to(root)} was cut short; training goes on from the one before"
        yield Finding("outputs", "warn", came, "whole checkpoints", "`fastdrive doctor --fix`", fixable=True, code=DATA)
    for folder in sorted(set(root.glob(CHECKPOINTS)) - set(unfinished)):
        if fault := _fault(folder, ""):
            then = f"`rm -r {folder}`: training passes over it"
            yield Finding("outputs", "warn", fault, "whole checkpoints", then, code=DATA)
    for folder in sorted(path for path in root.glob(CACHES) if path.is_dir()):
        if fault := _fault(folder, ""):
            yield Finding("outputs", "ok", f"{fault}; the next training makes what lacks")


def _is_output(root: Path, path: str) -> bool:
    outs: list[dict[str, Any]] = [out for entry in locked(root).values() for out in entry.get("outs", [])]
    return any(out["path"] == path for out in outs)


def _fault(folder: Path, made_by: str) -> str:
    """The first thing that is not as the manifest says; empty when nothing is."""
    try:
        read_manifest(folder, made_by)
        for name, entry in read_json(folder / MANIFEST, made_by)["files"].items():
            if sha256(folder / name) != entry["sha256"]:
                return f"{folder / name} has other bytes than were written"
    except DataError as error:
        return f"{error.expected}: {error.got}"
    except (KeyError, TypeError, AttributeError) as error:
        return f"{folder / MANIFEST} is no manifest: {error!r}"
    return ""


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else (below for below in path.rglob("*") if below.is_file())
    return sum(file.stat().st_size for file in files)
