"""The results of a git commit: the metrics, params and dvc.lock it holds, and per-sample scores from DVC's cache."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.core.errors import DataError
from stages.core.io import read_parquet
from stages.core.params import flat
from stages.report.made import cached, has, listing, made_of
from stages.report.states import Cell, Row, State

SUMMARY = "metrics/summary.json"
SCORES = "results/scores"


def commit_of(name: str, root: Path) -> str | None:
    """The commit that `name` means in the checkout `root`, or None."""
    return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")


def revision(name: str, commit: str, root: Path) -> State:
    """The state of a commit. Raises DataError when it holds no scores."""
    summary = _json(root, commit, SUMMARY)
    if not summary:
        raise DataError(
            expected=f"{SUMMARY} in {name}, which `fastdrive reproduce` writes and git tracks",
            got="no such file in that commit",
            fix="`git log --oneline -- metrics/summary.json` lists the commits that have one",
        )
    rows = {(method, int(key.rpartition("_")[2])): row for method, part in summary.items() for key, row in part.items()}
    params = yaml.safe_load(_text(root, commit, "params.yaml") or "{}")
    hashes = outs(yaml.safe_load(_text(root, commit, "dvc.lock") or "{}") or {})
    about = {"kind": "git commit", "commit": commit[:12], "date": git(root, "show", "-s", "--format=%cI", commit) or ""}
    about["subject"] = git(root, "show", "-s", "--format=%s", commit) or ""
    values = {key: text for section, part in params.items() for key, text in flat(section, part).items()}
    samples = cached_samples(hashes, root)
    made = made_of(hashes, root)
    return State(name, about, rows, values, hashes, commit, _tflops(root, commit), samples, made)


def outs(lock: Mapping[str, Any]) -> dict[str, str]:
    """Path -> md5 of all that a dvc.lock says was made."""
    stages = lock.get("stages", {}).values()
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}


def cached_samples(hashes: Mapping[str, str], root: Path) -> dict[Cell, list[Row]]:
    """Scores of each sample, of the rows whose file lies in the checkout or in DVC's cache with its very hash."""
    found: dict[Cell, list[Row]] = {}
    for name, md5 in (listing(hashes[SCORES], root) if SCORES in hashes else {}).items():
        if name.endswith(".parquet"):
            file = next((file for file in (root / SCORES / name, cached(root, md5)) if has(file, md5)), None)
            rows = read_parquet(file, "dvc fetch").to_pylist() if file else []
            for row in rows:
                found.setdefault((Path(name).stem, row["pruned_percent"]), []).append(row)
    return found


def commits_between(a: str, b: str, root: Path) -> list[tuple[str, str]]:
    """Hash and subject of the commits of one of the two alone that touch code or params, newest first."""
    told = git(root, "log", "--format=%h%x09%s", f"{a}...{b}", "--", "stages", "flows", "params.yaml", "dvc.yaml")
    return [(line.partition("\t")[0], line.partition("\t")[2]) for line in (told or "").splitlines()]


def git(root: Path, *words: str) -> str | None:
    """What git answers; None where it refuses or is not there."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _tflops(root: Path, commit: str) -> dict[Cell, float]:
    found: dict[Cell, float] = {}
    for method, profile in _json(root, commit, "metrics/efficiency.json").items():
        found |= {(method, int(key.rpartition("_")[2])): row["without_vision_tflops"] for key, row in profile.items()}
    return found


def _text(root: Path, commit: str, path: str) -> str | None:
    return git(root, "show", f"{commit}:{path}")


def _json(root: Path, commit: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_text(root, commit, path) or "{}")
    return found
