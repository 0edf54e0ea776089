"""Where a run came from: commit, params, lock file, the hashes DVC knows, the machine."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.core.io import fingerprint, sha256

MADE = (":!dvc.lock", ":!metrics", ":!models/driver")  # written by DVC and its stages as they run, edited by nobody


def lineage(root: Path, stage: str) -> dict[str, str]:
    """Tags of a run of the DVC stage `stage` in the checkout `root`; what is unknown (no git, no lock) is left out."""
    tags = {
        "git.commit": git_says(root, "rev-parse", "HEAD"),
        "git.branch": git_says(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "dvc.stage": stage,
        "dvc.lock.sha256": _sha256_of(root / "dvc.lock"),
        "params.sha256": _sha256_of(root / "params.yaml"),
        "env.lock.sha256": _sha256_of(root / "requirements.lock"),
        "prefect.flow_run_id": os.environ.get("PREFECT__FLOW_RUN_ID", ""),
        "prefect.flow_run.page": os.environ.get("FASTDRIVE_FLOW_PAGE", ""),
        "hardware": hardware(),
    }
    if tags["git.commit"]:
        tags["git.dirty"] = str(bool(git_says(root, "status", "--porcelain", "--", ".", *MADE))).lower()
    tags["pipeline.fingerprint"] = _pipeline(tags)
    tags |= {f"dvc.dep.{path}.md5": md5 for path, md5 in _made_inputs(root, stage).items()}
    return {key: value for key, value in tags.items() if value}


def code_commit(root: Path) -> str:
    """The commit of the checkout, with a note where its code or params are others; empty without git."""
    commit = git_says(root, "rev-parse", "HEAD")[:12]
    changed = commit and git_says(root, "status", "--porcelain", "--", "stages", "params.yaml")
    return f"{commit} with uncommitted changes" if changed else commit


def note(tags: Mapping[str, str], report: bool = False) -> str:
    """What a run is, in Markdown for its page: of a stage where the tags name one, otherwise of the whole pipeline.

    `report`: the page of the report is among its files.
    """
    stage, commit = tags.get("dvc.stage", ""), tags.get("git.commit", "")
    what = (
        f"Stage `{stage}` of FastDrive" if stage else "One run of FastDrive's pipeline; its stages are the child runs"
    )
    place = f", at commit `{commit[:12]}` of `{tags.get('git.branch', '')}`" if commit else ""
    edits = " **and edits that no commit holds**" if tags.get("git.dirty") == "true" else ""
    page = tags.get("prefect.flow_run.page", "")
    started = f", started by [this Prefect run]({page})" if page else ""
    lines = [f"{what}{place}{edits}{started}."]
    lines += ["The report: **Artifacts**, `index.html`."] if report else []
    again = [f"git checkout {commit}"] * bool(commit) + [f"dvc repro {stage}".rstrip()]
    lines += ["Make it again, in a clone:\n\n```\n" + "\n".join(again) + "\n```"]
    lines += ["Packages, data and all other names of this state: `python -m stages.registry.lineage <Run ID>`"]
    return "\n\n".join(lines)


def outputs(root: Path, stage: str) -> dict[str, str]:
    """Tags with the md5 of each output that dvc.lock holds for `stage`."""
    entries = locked(root).get(stage, {}).get("outs", [])
    return {f"dvc.out.{out['path']}.md5": out["md5"] for out in entries if "md5" in out}


def flat(prefix: str, value: Any) -> dict[str, str]:
    """A value of params.yaml as dotted names and text."""
    if not isinstance(value, dict):
        return {prefix: json.dumps(value) if isinstance(value, list) else str(value)}
    return {key: text for name, part in value.items() for key, text in flat(f"{prefix}.{name}", part).items()}


def _pipeline(tags: dict[str, str]) -> str:
    """One name per execution of the pipeline: the flow's, or equal for equal params, packages and commit."""
    given = os.environ.get("FASTDRIVE_PIPELINE_RUN", "")
    own = fingerprint(tags["params.sha256"], tags["env.lock.sha256"], tags["git.commit"])
    return re.sub(r"[^\w-]", "_", given) or own


def _made_inputs(root: Path, stage: str) -> dict[str, str]:
    """Inputs of `stage` that another stage makes. Its own entry may be of an older run, theirs are current."""
    lock = locked(root)
    made = {out["path"]: out.get("md5", "") for entry in lock.values() for out in entry.get("outs", [])}
    return {dep["path"]: made[dep["path"]] for dep in lock.get(stage, {}).get("deps", []) if dep["path"] in made}


def locked(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock; empty when there is none, or it was cut short."""
    try:
        # The same reader in C, where yaml has it: a sixth of the time, twice in each of some fifty stages
        reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        lock = reader((root / "dvc.lock").read_text(encoding="utf-8")).get_single_data()
    except (OSError, ValueError, yaml.YAMLError):  # absent, or cut short by a kill (flows/dvc.py mends it)
        return {}
    stages = lock.get("stages") if isinstance(lock, dict) else None
    return {name: entry for name, entry in stages.items() if _is_whole(entry)} if isinstance(stages, dict) else {}


def _is_whole(entry: Any) -> bool:
    """Cut short, a lock can still be YAML: then its last entry has a part that is no list of files, or no params."""
    if not isinstance(entry, dict):
        return False
    files = [entry.get(part, []) for part in ("deps", "outs")]
    params = entry.get("params", {})
    return (
        all(
            isinstance(part, list)
            and all(isinstance(file, dict) and isinstance(file.get("path"), str) for file in part)
            for part in files
        )
        and isinstance(params, dict)
        and all(isinstance(part, dict) for part in params.values())
    )


def git_says(root: Path, *words: str) -> str:
    """What git prints, its last line break apart; empty where it fails, takes 20 s or is not there."""
    try:
        answer = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.rstrip() if answer.returncode == 0 else ""


def _sha256_of(path: Path) -> str:
    return sha256(path) if path.is_file() else ""


def hardware() -> str:
    """Cores, memory and GPUs, read without importing torch."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [
        line.partition(":")[2].strip()
        for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in card.read_text(encoding="utf-8").splitlines()
        if line.startswith("Model")
    ]
    return ", ".join([f"{os.cpu_count()} cores", f"{memory_gb:.0f} GB", *gpus])
