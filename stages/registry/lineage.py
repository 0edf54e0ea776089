"""From any name of a state to all its other names, and to that very state in a checkout.

Takes the id of an MLflow run, a version (`3`, `champion`, `models:/reconpruner@champion`), a git commit, a hash of DVC,
or the id of a Prefect flow run. Reads MLflow and git; changes nothing.

    python -m stages.registry.lineage champion
"""

import argparse
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.core.command import run
from stages.core.errors import DataError
from stages.core.params import Params
from stages.registry.runs import all_runs
from stages.registry.versions import ADDRESS, Registry

SHORTEST = 7  # letters of a commit that name it
FLOWS = ("prefect.flow_run_id", "promotion.flow_run", "rollback.flow_run")


@dataclass(frozen=True)
class Record:
    """A run or a version, with its tags."""

    kind: str  # run, version
    id: str  # run id, or <name>/<number>
    title: str
    tags: Mapping[str, str]

    @property
    def outs(self) -> dict[str, str]:
        """Path -> DVC's hash of what it made."""
        found = {
            key[8:-4]: md5 for key, md5 in self.tags.items() if key.startswith("dvc.out.") and key.endswith(".md5")
        }
        return {path: md5 for path, md5 in found.items() if "/" in path}

    @property
    def commits(self) -> set[str]:
        return {self.tags[key] for key in ("git.commit", "train.git.commit") if self.tags.get(key)}

    @property
    def names(self) -> set[str]:
        """Everything that means this record."""
        linked = (*FLOWS, "train.run_id", "mlflow.parentRunId")
        others = {self.tags[key] for key in linked if self.tags.get(key)}
        hashes = {name for md5 in self.outs.values() for name in (md5, md5.removesuffix(".dir"))}
        return {self.id, *self.commits, *others, *hashes}

    @property
    def inputs(self) -> set[str]:
        """DVC's hashes of what it read, as people may write them."""
        found = [md5 for key, md5 in self.tags.items() if key.startswith("dvc.dep.")]
        return {name for md5 in found for name in (md5, md5.removesuffix(".dir"))}


def find(records: Sequence[Record], name: str) -> list[Record]:
    """The records that `name` means, and the run of each version, and the versions of each run.

    A hash means what was made with it; only when nothing was, what read it. Empty when nothing fits.
    """
    found = [record for record in records if name in record.names]
    if not found and len(name) >= SHORTEST:
        found = [r for r in records if any(full.startswith(name) for full in {*r.commits, r.id})]
    if not found:
        found = [record for record in records if name in record.inputs]
    ids = {record.id for record in found} | {record.tags.get("train.run_id", "") for record in found}
    return [record for record in records if record.id in ids or record.tags.get("train.run_id", "") in ids - {""}]


def best(found: Sequence[Record]) -> Record | None:
    """The record whose state is told: a clean version before any other, a training run before the other stages'."""

    def rank(record: Record) -> tuple[bool, bool, bool]:
        return record.kind != "version", record.tags.get("git.dirty") != "false", "train" not in record.title

    return min(found, key=rank, default=None)


def told(found: Sequence[Record]) -> list[str]:
    """A line for each name of each record."""
    lines = []
    for record in sorted(found, key=lambda record: (record.kind != "version", record.title)):
        lines.append(f"{record.kind:8} {record.id}  {record.title}")
        tags = record.tags
        named = {"run": tags.get("train.run_id", ""), "commit": tags.get("git.commit", "")}
        named["trained at"] = tags.get("train.git.commit", "")
        named |= {key.split(".")[0]: tags.get(key, "") for key in FLOWS}
        lines += [f"  {name:12} {value}" for name, value in named.items() if value]
        lines += [f"  {'dvc':12} {md5}  {path}" for path, md5 in record.outs.items()]
    return lines


def steps(commit: str, paths: Iterable[str], stage: str, lock_sha256: str, exact: bool) -> list[str]:
    """Commands that bring a fresh clone to the state: code, packages, data; and that make it again."""
    outs = " ".join(paths)
    lines = [] if exact else ["# edits that no commit holds went in, too: this is near, not exact"]
    lines += [f"git checkout {commit}"]
    lines += ["uv venv --clear --python 3.11 .venv && . .venv/bin/activate"]
    lines += [f"uv pip install --no-deps --require-hashes -r requirements.lock  # sha256 {lock_sha256 or 'not known'}"]
    if outs:
        lines += [f"dvc checkout {outs}  # from this machine's cache, or: dvc pull {outs}"]
    if stage:
        lines += [f"dvc repro {stage}  # makes it again, when no cache has it"]
    return lines


def main(words: argparse.Namespace, params: Params) -> None:
    """Look up, print."""
    registry = Registry(params.registry.name)
    records = [*versions_of(registry), *runs_of(registry, params.tracking.experiment)]
    found = find(records, resolve(registry, words.name))
    state = best(found)
    holding = commits_of(words.name, state)
    if not found and not holding:
        raise DataError(
            expected="an MLflow run, a version, a commit, a hash of DVC or a Prefect flow run",
            got=f"{words.name!r}, which neither {registry.uri} nor git knows",
            fix="`python -m stages.registry.lineage champion`, or `git fetch` first",
        )
    print("\n".join(told(found)))
    tags = state.tags if state else {}
    commit = holding[0] if holding else tags.get("git.commit", "")
    exact = bool(holding) or tags.get("git.dirty") == "false"
    stage = tags.get("dvc.stage", "")
    lines = steps(commit, state.outs if state else (), stage, tags.get("env.lock.sha256", ""), exact)
    print("\n# this state in a fresh clone:\n" + "\n".join(lines))


def resolve(registry: Registry, name: str) -> str:
    """An address, alias or number as the id of a version's record; anything else as it is."""
    found = ADDRESS.fullmatch(name)
    if not found or (found["name"] or registry.name) != registry.name or re.fullmatch(r"[0-9a-f-]{7,}", name):
        return name
    number = found["what"] if found["what"].isdigit() else registry.aliases().get(found["what"])
    return f"{registry.name}/{number}" if number else name


def versions_of(registry: Registry) -> list[Record]:
    """Every version of the registered model."""
    pointing: dict[str, list[str]] = {}
    for alias, number in registry.aliases().items():
        pointing.setdefault(number, []).append(alias)
    found = registry.versions()
    titles = {v.number: ", ".join([v.tags.get("pruner", ""), *sorted(pointing.get(v.number, []))]) for v in found}
    return [Record("version", f"{v.name}/{v.number}", titles[v.number], v.tags) for v in found]


def runs_of(registry: Registry, experiment: str) -> list[Record]:
    """Every run of the experiment."""
    return [Record("run", r.info.run_id, r.info.run_name or "", r.data.tags) for r in all_runs(registry, experiment)]


def commits_of(name: str, state: Record | None) -> list[str]:
    """Commits that hold the state: the one that was named, a clean version's own, or those whose dvc.lock has its hash,
    oldest first.
    """
    if re.fullmatch(r"[0-9a-f]{7,40}", name) and (named := _git("rev-parse", "--verify", "-q", f"{name}^{{commit}}")):
        return [named]
    if state and state.kind == "version" and state.tags.get("git.dirty") == "false":
        return [state.tags["git.commit"]]
    hashes = [name] if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name) else []
    hashes += list(state.outs.values())[:1] if state else []
    for md5 in hashes:
        if commits := _git("log", "--all", "--reverse", "--format=%H", f"-S{md5}", "--", "dvc.lock").split():
            return commits
    return []


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=Path.cwd(), capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m stages.registry.lineage", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("name", help="run id, version, commit, hash of DVC, or Prefect flow run id")
    run(partial(main, parser.parse_args()))
