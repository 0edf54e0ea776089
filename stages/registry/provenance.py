"""Tags that say where a version came from: commit, dvc.lock, the hashes in it, held against the bytes that are here."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.core.errors import DataError
from stages.core.io import sha256
from stages.core.provenance import lineage, locked
from stages.registry.versions import CONFIG, WEIGHTS


def provenance(root: Path, pruner: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Tags of `models/<pruner>` and its results in the checkout `root`.

    `dvc.out.<name>.md5` of gate.OUTS are there only where DVC made the very bytes that lie here; `dvc.code.matches`:
    whether code and params are still those that made them and all that they were made of; `dvc.lock.committed`: whether
    the commit holds this lock; `git.dirty` counts every file, what DVC writes too. Raises DataError without a dvc.lock.
    """
    lock = locked(root)
    if not lock:
        raise DataError(
            expected="a dvc.lock, which says what made models/", got="none", fix=f"dvc repro train_pruner@{pruner}"
        )
    outs = {
        "weights": f"models/{pruner}",
        "scores": f"results/scores/{pruner}.json",
        "rows": f"results/scores/{pruner}.parquet",
        "unpruned": "results/scores/none.parquet",
        "efficiency": f"results/efficiency/{pruner}.json",
    }
    made = {name: md5 for name, path in outs.items() if (md5 := _proven(root, path, lock))}
    stages = [
        stage for stage, entry in lock.items() if {out["path"] for out in entry.get("outs", [])} & {*outs.values()}
    ]
    training = next((stage for stage in stages if _makes(lock[stage], outs["weights"])), "")
    tags = lineage(root, training)
    tags = {key: value for key, value in tags.items() if key != "hardware" and not key.startswith("prefect.")}
    tags |= {f"dvc.out.{name}.md5": md5 for name, md5 in made.items()}
    tags |= {f"dvc.out.{outs[name]}.md5": md5 for name, md5 in made.items()}
    return tags | {
        "git.dirty": _yes(bool(_git(root, "status", "--porcelain")) or not tags.get("git.commit")),
        "dvc.lock.committed": _yes(_git(root, "show", "HEAD:./dvc.lock") == (root / "dvc.lock").read_bytes()),
        "dvc.code.matches": _yes(bool(stages) and not any(_changed(root, lock, _upstream(lock, stages)))),
        "pruner": pruner,
        "encoder": str(config.get("encoder", "")),
        "weights.sha256": sha256(root / outs["weights"] / WEIGHTS),
        "config.sha256": sha256(root / outs["weights"] / CONFIG),
    }


def _yes(value: bool) -> str:
    return str(value).lower()


def _makes(entry: Mapping[str, Any], path: str) -> bool:
    return any(out["path"] == path for out in entry.get("outs", []))


def _upstream(lock: Mapping[str, Any], stages: list[str]) -> list[str]:
    """`stages`, and all whose outputs they were made of, by the lock."""
    found = [*stages]
    for stage in found:  # grows behind the place where it is read
        deps = [dep["path"] for dep in lock[stage].get("deps", [])]
        for other, entry in lock.items():
            outs = [out["path"] for out in entry.get("outs", [])]
            if other not in found and any(_within(dep, out) or _within(out, dep) for dep in deps for out in outs):
                found.append(other)
    return found


def _within(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


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


def _changed(root: Path, lock: Mapping[str, Any], stages: list[str]) -> Iterator[str]:
    """Inputs of `stages` that are no longer what their lock entries say: code by its bytes, data by the lock of the
    stage that made it (a part of an output by its bytes), params by their values.
    """
    made = {out["path"]: out.get("md5") for other in lock.values() for out in other.get("outs", [])}
    now, trees = dict(made), dict[str, Any]()  # of what many stages read, once
    for entry in map(lock.__getitem__, stages):
        for dep in entry.get("deps", []):
            name = dep["path"]
            path, wanted = root / name, dep.get("md5")
            if name not in now and (path.is_file() or path.is_dir() and any(_within(name, out) for out in made)):
                now[name] = md5_of(path)
            if now.get(name, wanted) != wanted:
                yield name
        for file, values in entry.get("params", {}).items():
            if file not in trees:
                text = (root / file).read_text(encoding="utf-8") if (root / file).is_file() else "{}"
                trees[file] = yaml.safe_load(text)
            yield from (key for key, value in values.items() if _at(trees[file], key) != value)


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _git(root: Path, *words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=root, capture_output=True).stdout
