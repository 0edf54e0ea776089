"""Provenance of a run: commit, params, lock file, the hashes in dvc.lock, the machine."""

import getpass
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.io import fingerprint, sha256

MADE = (":!dvc.lock", ":!metrics", ":!models/driver")  # written by DVC and its stages as they run, edited by nobody
FILES = {"dvc.lock.sha256": "dvc.lock", "params.sha256": "params.yaml", "env.lock.sha256": "requirements.lock"}


def lineage(root: Path, stage: str) -> dict[str, str]:
    """Return tags of a run of the DVC stage `stage` in the checkout `root`; what is unknown is left out."""
    tags = {
        "git.commit": git_says(root, "rev-parse", "HEAD"),
        "git.branch": git_says(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "dvc.stage": stage,
        "prefect.flow_run_id": os.environ.get("PREFECT__FLOW_RUN_ID", ""),
        "prefect.flow_run.page": os.environ.get("FASTDRIVE_FLOW_PAGE", ""),
        "hardware": hardware(),
    }
    tags |= {key: sha256(root / name) if (root / name).is_file() else "" for key, name in FILES.items()}
    if tags["git.commit"]:
        tags["git.dirty"] = str(bool(git_says(root, "status", "--porcelain", "--", ".", *MADE))).lower()
    # One name per execution of the pipeline: the flow's, DVC's experiment, or one for equal params, packages and commit
    own = fingerprint(tags["params.sha256"], tags["env.lock.sha256"], tags["git.commit"])
    experiment = os.environ.get("DVC_EXP_NAME", "")
    given = os.environ.get("FASTDRIVE_PIPELINE_RUN", "") or experiment
    tags["pipeline.fingerprint"] = re.sub(r"[^\w-]", "_", given) or own
    tags["pipeline.name"] = experiment or f"reproduce {git_says(root, 'log', '-1', '--format=%h %s')[:80]}".strip()
    # Inputs that other stages make, by the entries of those stages, which are current
    deps = [dep["path"] for dep in locked(root).get(stage, {}).get("deps", [])]
    for out, md5 in locked_outs(root).items():
        if any(out == dep or out.startswith(f"{dep}/") for dep in deps):
            tags[f"dvc.dep.{out}.md5"] = md5
    return {key: value for key, value in tags.items() if value}


def code_commit(root: Path) -> str:
    """Return the commit of the checkout, with a note where code or params were edited since; empty without git."""
    commit = git_says(root, "rev-parse", "HEAD")[:12]
    changed = commit and git_says(root, "status", "--porcelain", "--", "stages", "params.yaml")
    return f"{commit} with uncommitted changes" if changed else commit


def describe(tags: Mapping[str, str]) -> str:
    """Return Markdown for the page of a run: of a stage where the tags name one, otherwise of the whole pipeline."""
    stage, commit = tags.get("dvc.stage", ""), tags.get("git.commit", "")
    what = f"Stage `{stage}` of FastDrive" if stage else "A run of FastDrive's pipeline; its stages are the child runs"
    where = f", at commit `{commit[:12]}` of `{tags.get('git.branch', '')}`" if commit else ""
    edits = " **and edits that no commit holds**" if tags.get("git.dirty") == "true" else ""
    page = tags.get("prefect.flow_run.page", "")
    started = f", started by [this Prefect run]({page})" if page else ""
    lines = [f"{what}{where}{edits}{started}."]
    lines += ["The report: **Artifacts**, `index.html`."] if stage == "make_report" else []
    again = [f"git checkout {commit}"] * bool(commit) + [f"dvc repro {stage}".rstrip()]
    lines += ["Make it again, in a clone:\n\n```\n" + "\n".join(again) + "\n```"]
    lines += ["Packages, data and all other names of this state: `fastdrive lineage <Run ID>`"]
    return "\n\n".join(lines)


def locked_outs(root: Path, stage: str = "", commit: str = "") -> dict[str, str]:
    """Return path -> md5 of the outputs of `stage` (none: of all) by the dvc.lock in `root`, or by that of `commit`."""
    lock = locked(root, commit)
    entries = [lock.get(stage, {})] if stage else lock.values()
    return {out["path"]: out["md5"] for entry in entries for out in entry.get("outs", []) if "md5" in out}


def locked(root: Path, commit: str = "") -> dict[str, Any]:
    """Return the stages of dvc.lock, of the checkout `root` or of `commit`; empty where it is absent or damaged."""
    import yaml  # here: `fastdrive info` does without it

    try:
        text = git_says(root, "show", f"{commit}:./dvc.lock") if commit else (root / "dvc.lock").read_text("utf-8")
        reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C a sixth of the time
        stages = reader(text).get_single_data()["stages"]
        return {name: entry for name, entry in stages.items() if _is_whole(entry)}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, yaml.YAMLError):  # absent, or cut short
        return {}


def _is_whole(entry: Any) -> bool:
    """Return False for the entry at which a lock was cut short: that can still be YAML."""
    try:
        files = [*entry.get("deps", ()), *entry.get("outs", ())]
        params = entry.get("params", {}).values()
        return all(isinstance(file["path"], str) for file in files) and all(isinstance(part, dict) for part in params)
    except (AttributeError, LookupError, TypeError):
        return False


def git_says(root: Path, *words: str) -> str:
    """Return what git prints, without its last line break; empty where it fails, takes 20 s or is not installed."""
    try:
        answer = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.rstrip() if answer.returncode == 0 else ""


def user() -> str:
    """Return who runs this process; empty for a user id without a name, as in a container."""
    try:
        return os.environ.get("GIT_AUTHOR_NAME") or getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return ""


def hardware() -> str:
    """Return cores, memory and GPUs, read without importing torch."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [
        line.partition(":")[2].strip()
        for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in card.read_text(encoding="utf-8").splitlines()
        if line.startswith("Model")
    ]
    return ", ".join([f"{os.cpu_count()} cores", f"{memory_gb:.0f} GB", *gpus])
