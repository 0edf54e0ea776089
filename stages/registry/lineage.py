"""From any name of a state to its other names, and to the commands that restore it in a clone.

python -m stages.registry.lineage champion     # or another version, a run, commit, md5 of dvc.lock, Prefect flow run
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.core.command import run
from stages.core.errors import DataError
from stages.core.params import Params
from stages.core.provenance import git_says
from stages.registry.versions import ADDRESS, Registry

SHORTEST = 7  # letters of an abbreviated commit
COMMITS = ("git.commit", "train.git.commit")
FLOWS = ("prefect.flow_run_id", "promotion.flow_run", "rollback.flow_run")
LABELS = {"run": "train.run_id", "commit": "git.commit", "trained at": "train.git.commit", "dvc": "dvc.md5"}
LABELS |= {key.split(".")[0]: key for key in FLOWS}
LINKED = (*COMMITS, *FLOWS, "train.run_id", "mlflow.parentRunId", "dvc.md5")


@dataclass(frozen=True)
class Record:
    """A run or a version, with its tags."""

    kind: str  # run, version
    id: str  # run id, or <name>/<number>
    title: str
    tags: Mapping[str, str]

    @property
    def names(self) -> set[str]:
        """All names that mean this record."""
        linked = {self.tags[key] for key in LINKED if self.tags.get(key)}
        return {self.id, *linked, *(name.removesuffix(".dir") for name in linked)}


def find(records: Sequence[Record], name: str) -> list[Record]:
    """The records that `name` means, the run of each version, and the versions of each run."""
    found = [record for record in records if name in record.names]
    if not found and len(name) >= SHORTEST:
        found = [r for r in records if any(full.startswith(name) for full in (r.id, *map(r.tags.get, COMMITS)) if full)]
    ids = {record.id for record in found} | {record.tags.get("train.run_id", "") for record in found}
    return [record for record in records if record.id in ids or record.tags.get("train.run_id", "") in ids - {""}]


def best(found: Sequence[Record]) -> Record | None:
    """The record whose state is shown: a version before a run, a clean one before others, a training run first."""
    ranks = [(r.kind != "version", r.tags.get("git.dirty") != "false", "train" not in r.title) for r in found]
    return found[ranks.index(min(ranks))] if found else None


def main(words: argparse.Namespace, params: Params) -> None:
    registry = Registry(params.registry.name)
    found = find(records_of(registry, params.tracking.experiment), resolve(registry, words.name))
    state = best(found)
    commit, exact = commit_of(words.name, state)
    if not commit:
        raise DataError(
            expected="an MLflow run, a version, a commit, an md5 of dvc.lock or a Prefect flow run",
            got=f"{words.name!r}, which neither {registry.uri} nor git knows",
            fix="`python -m stages.registry.lineage champion`, or `git fetch` first",
        )
    for record in sorted(found, key=lambda record: (record.kind != "version", record.title)):
        print(f"{record.kind:8} {record.id}  {record.title}")
        for label, key in LABELS.items():
            if record.tags.get(key):
                print(f"  {label:12} {record.tags[key]}")
    tags = state.tags if state else {}
    print("\n# this state in a fresh clone:")
    if not exact:
        print("# edits that no commit holds went in, too: this is near, not exact")
    print(f"git checkout {commit}\nuv venv --clear --python 3.11 .venv && . .venv/bin/activate")
    known = tags.get("env.lock.sha256", "not known")
    print(f"uv pip install --no-deps --require-hashes -r requirements.lock  # sha256 {known}")
    if pruner := tags.get("pruner"):
        print(f"dvc checkout models/{pruner}  # from this machine's cache, or: dvc pull models/{pruner}")
    if stage := tags.get("dvc.stage"):
        print(f"dvc repro {stage}  # makes it again, when no cache has it")


def resolve(registry: Registry, name: str) -> str:
    """An address, alias or number as the id of a version's record; anything else unchanged."""
    parts = ADDRESS.fullmatch(name)
    if not parts or (parts["name"] or registry.name) != registry.name or re.fullmatch(r"[0-9a-f-]{7,}", name):
        return name
    version = parts["version"]
    number = version if version.isdigit() else registry.aliases().get(version)
    return f"{registry.name}/{number}" if number else name


def records_of(registry: Registry, experiment: str) -> list[Record]:
    """Return every version of the registered model and every run of the experiment."""
    titles: dict[str, list[str]] = {}
    for alias, number in sorted(registry.aliases().items()):
        titles.setdefault(number, []).append(alias)
    records = []
    for version in registry.versions():
        title = ", ".join([version.tags.get("pruner", ""), *titles.get(version.number, [])])
        records.append(Record("version", f"{version.name}/{version.number}", title, version.tags))
    runs = registry.runs(experiment)
    return records + [Record("run", r.info.run_id, r.info.run_name or "", r.data.tags) for r in runs]


def commit_of(name: str, state: Record | None) -> tuple[str, bool]:
    """The commit of the state and whether it holds it exactly: the named one, that of the tags, or the first whose
    dvc.lock has the named md5.
    """
    root = Path.cwd()
    if re.fullmatch(r"[0-9a-f]{7,40}", name) and (
        named := git_says(root, "rev-parse", "--verify", "-q", f"{name}^{{commit}}")
    ):
        return named, True
    dirty = state is None or state.tags.get("git.dirty") != "false"
    md5 = name if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", name) else state.tags.get("dvc.md5", "") if state else ""
    if md5 and dirty:
        commits = git_says(root, "log", "--all", "--reverse", "--format=%H", f"-S{md5}", "--", "dvc.lock").split()
        if commits:
            return commits[0], True
    return (state.tags.get("git.commit", ""), not dirty) if state else ("", False)


if __name__ == "__main__":
    program = "python -m stages.registry.lineage"
    parser = argparse.ArgumentParser(prog=program, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", help="run id, version, commit, md5 of dvc.lock, or Prefect flow run id")
    run(partial(main, parser.parse_args()))
