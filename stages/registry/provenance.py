"""Tags that say where a version came from: commit, dvc.lock, the hashes in it, held against the bytes that are here."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.errors import DataError
from stages.files import sha256
from stages.lineage import lineage, locked
from stages.registry.versions import CONFIG, WEIGHTS


def provenance(root: Path, pruner: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Tags of `models/<pruner>` and its results in the checkout `root`.

    `dvc.out.<weights, scores, efficiency>.md5` are there only where DVC made the very bytes that lie here;
    `dvc.code.matches`: whether code and params are still those that made them; `dvc.lock.committed`: whether the commit
    holds this lock; `git.dirty` counts every file, what DVC writes too. Raises DataError when there is no dvc.lock.
    """
    lock = locked(root)
    if not lock:
        raise DataError(
            wanted="a dvc.lock, which says what made models/", came="none", then=f"dvc repro train_pruner@{pruner}"
        )
    outs = {
        "weights": f"models/{pruner}",
        "scores": f"results/scores/{pruner}.json",
        "efficiency": f"results/efficiency/{pruner}.json",
    }
    made = {name: md5 for name, path in outs.items() if (md5 := _proven(root, path, lock))}
    stages = [
        stage for stage, entry in lock.items() if {out["path"] for out in entry.get("outs", [])} & {*outs.values()}
    ]
    stages += [stage for stage in lock if stage.startswith("plan_") and stage.endswith(f"@{pruner}")]
    training = next((stage for stage in stages if _makes(lock[stage], outs["weights"])), "")
    tags = lineage(root, training)
    tags = {key: value for key, value in tags.items() if key not in ("hardware", "prefect.flow_run_id")}
    tags |= {f"dvc.out.{name}.md5": md5 for name, md5 in made.items()}
    tags |= {f"dvc.out.{outs[name]}.md5": md5 for name, md5 in made.items()}
    return tags | {
        "git.dirty": _yes(bool(_git(root, "status", "--porcelain")) or not tags.get("git.commit")),
        "dvc.lock.committed": _yes(_git(root, "show", "HEAD:./dvc.lock") == (root / "dvc.lock").read_bytes()),
        "dvc.code.matches": _yes(bool(stages) and not any(any(_changed(root, lock, stage)) for stage in stages)),
        "pruner": pruner,
        "encoder": str(config.get("encoder", "")),
        "weights.sha256": sha256(root / outs["weights"] / WEIGHTS),
        "config.sha256": sha256(root / outs["weights"] / CONFIG),
    }


def _yes(value: bool) -> str:
    return str(value).lower()


def _makes(entry: Mapping[str, Any], path: str) -> bool:
    return any(out["path"] == path for out in entry.get("outs", []))


def _proven(root: Path, path: str, lock: Mapping[str, Any]) -> str:
    """The md5 that the lock has of an output, when that of the bytes here is the same; empty otherwise."""
    wanted = next((out.get("md5", "") for e in lock.values() for out in e.get("outs", []) if out["path"] == path), "")
    return wanted if (root / path).exists() and md5_of(root / path) == wanted else ""


def md5_of(path: Path) -> str:
    """DVC's hash: a file's md5; of a folder that of the JSON list of its files' hashes and names, and `.dir`."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    listed = json.dumps([{"md5": md5_of(path / name), "relpath": name} for name in names])
    return hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _changed(root: Path, lock: Mapping[str, Any], stage: str) -> Iterator[str]:
    """Inputs of a stage that are no longer what its lock entry says: code by its bytes, data by the lock of its stage,
    params by their values.
    """
    entry = lock[stage]
    made = {out["path"]: out.get("md5") for other in lock.values() for out in other.get("outs", [])}
    for dep in entry.get("deps", []):
        path = root / dep["path"]
        now = made[dep["path"]] if dep["path"] in made else md5_of(path) if path.is_file() else dep.get("md5")
        if now != dep.get("md5"):
            yield dep["path"]
    for file, values in entry.get("params", {}).items():
        tree = yaml.safe_load((root / file).read_text(encoding="utf-8")) if (root / file).is_file() else {}
        yield from (key for key, value in values.items() if _at(tree, key) != value)


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _git(root: Path, *words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=root, capture_output=True).stdout
