"""What the numbers of a page came from and whether they pass the gate: facts for its head."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.io import sha256
from stages.core.params import Params
from stages.core.provenance import locked
from stages.registry.evidence import read_evidence, results_of, rules_of
from stages.registry.gate import Evidence, Verdict, judge
from stages.report.inputs import Inputs, made_by

ENVIRONMENT = Path("requirements.lock")
SHOWN = 12  # signs of a hash
RATIO = "% pruned"  # in the name of each rule about numbers; the others are about the lineage of a registered version
NO_CHAMPION = "champion: this page asks no registry, its copy in MLflow does"


def verdict_line(params: Params, results: Path) -> str:
    """Whether the main trained pruner keeps the limits of `registry`, in one line; it names the first that it misses.

    Raises ParamsError for a ratio without limits; DataError naming the stage whose results are missing.
    """
    return f"{limits_in_words(judge(candidate(params, results), None, rules_of(params)))}; {NO_CHAMPION}"


def candidate(params: Params, results: Path, encoder: str = "") -> Evidence:
    """What speaks for the main trained pruner, as it would be registered. Raises DataError as above."""
    name = params.grid.trained[0]
    return read_evidence(results_of(name, results), name, encoder, {}, f"`{made_by('profile', name, params.grid)}`")


def limits_in_words(verdict: Verdict) -> str:
    """Of the rules about numbers alone, how many are kept, and the first that is not."""
    asked = [check for check in verdict.checks if RATIO in check.rule and "champion" not in check.rule]
    missed = [check for check in asked if not check.passed]
    if not missed:
        return f"{verdict.candidate} keeps all {len(asked)} limits of the gate"
    first = missed[0]
    return (
        f"{verdict.candidate} misses {len(missed)} of {len(asked)} limits of the gate, first {first.rule}: "
        f"{first.got}, expected {first.expected}"
    )


def source_facts(params: Params, inputs: Inputs, commit: str, root: Path) -> list[tuple[str, str]]:
    """Commit, locked packages, data and weights by DVC's md5, time to plan, machine; what is unknown is left out."""
    made = {out["path"]: out.get("md5", "") for entry in locked(root).values() for out in entry.get("outs", [])}
    names = [params.scenes.root, "data/masks", *(f"models/{name}" for name in params.grid.trained[:1])]
    hashes = [f"{name} {made[name][:SHOWN]}" for name in names if made.get(name)]
    packages = sha256(root / ENVIRONMENT)[:SHOWN] if (root / ENVIRONMENT).is_file() else ""
    facts = [
        ("Commit", commit),
        ("Data and weights (md5 in dvc.lock)", ", ".join(hashes)),
        ("Packages (sha256 of requirements.lock)", packages),
        ("Time to plan", _planned(params)),
        ("Machine of the timings", _machine(inputs.latency)),
    ]
    return [(label, value) for label, value in facts if value]


def _planned(params: Params) -> str:
    """Seconds of all rows that a driver planned; the other stages keep no time on disk (MLflow's runs have it)."""
    names = [name for name in params.grid.names if name not in params.grid.bounds]
    paths = [Path(f"results/throughput/{name}.json") for name in names]
    paces = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    seconds = [pace["seconds"] for pace in paces]
    return f"{sum(seconds):.0f} s for {len(seconds)} rows" if seconds else ""


def _machine(latency: Mapping[str, Any]) -> str:
    machines: Sequence[str] = [_named(record["machine"]) for record in latency.values()]
    return "; ".join(dict.fromkeys(machines))


def _named(machine: Mapping[str, Any]) -> str:
    return f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}"
