"""Register a trained pruner as a version of MLflow's model `registry.name`, and call it `candidate`.

Reads models/<pruner>, results/{scores,efficiency,latency}/<pruner>.json, results/scores/{<pruner>,none}.parquet,
dvc.lock. The same weights and scores registered again are the same version. No stage of DVC: a run cache would skip it.

    python -m stages.registry.register recon
"""

import argparse
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core.command import run
from stages.core.errors import DataError, ParamsError
from stages.core.io import read_json, sha256, write_json
from stages.core.params import Params
from stages.core.tracking import send_unsent
from stages.pruning import checkpoint, gate
from stages.pruning.recon import build
from stages.registry.card import card
from stages.registry.evidence import LATENCY, SCORES, TIMED, identity, read_evidence, results_of
from stages.registry.gate import Evidence
from stages.registry.moves import CANDIDATE, CHAMPION
from stages.registry.provenance import provenance
from stages.registry.runs import measure, training_run
from stages.registry.turn import turn
from stages.registry.versions import CONFIG, EVALUATION, PRUNER, WEIGHTS, Registry, Version, package

log = logging.getLogger(__name__)
MODELS, RESULTS = Path("models"), Path("results")


def main(words: argparse.Namespace, params: Params) -> None:
    """Register one pruner; print its version."""
    pruner = words.pruner
    if pruner not in params.grid.trained:
        raise ParamsError(expected=f"one of {', '.join(params.grid.trained)}", got=repr(pruner), fix="name one of them")
    send_unsent()  # the training run may still wait there
    registry = Registry(params.registry.name)
    version, new = register(registry, pruner, params)
    said = "registered as" if new else "is already"
    log.info("%s %s version %s of %s (candidate)", pruner, said, version.number, registry.name)
    print(version.number)
    if words.json:
        write_json(Path(words.json), {"version": version.number, "new": new, "name": registry.name})


def register(registry: Registry, pruner: str, params: Params) -> tuple[Version, bool]:
    """The version of what lies in this checkout, and whether it is a new one.

    Raises DataError for files that are missing or damaged, MachineError when the registry cannot be reached.
    """
    made_by = f"`dvc repro`, then register {pruner} again"
    config = checkpoint.read_config(MODELS / pruner, made_by)
    checkpoint.load(MODELS / pruner, build, made_by)  # what is registered can be loaded
    files = results_of(pruner, RESULTS)
    tags = provenance(Path.cwd(), pruner, config)
    evidence = read_evidence(files, "", tags["encoder"], tags, made_by)
    tags |= {
        "protocol": evidence.protocol,
        "fingerprint": identity(*_weights(MODELS / pruner), files),
    }
    experiment = params.tracking.experiment
    tags |= training_run(registry, experiment, tags["weights.sha256"])
    text = card(registry.name, tags, config, _rows(files[SCORES], evidence), params.scenes.oracle_root is not None)
    registry.ready()
    if found := registry.versions("fingerprint", tags["fingerprint"]):
        return _again(registry, found[-1], tags, text), False
    with TemporaryDirectory() as work:
        package(MODELS / pruner, files, Path(work) / "model")
        copies = {name: Path(work) / "model" / EVALUATION / name for name in files}
        if identity(*_weights(Path(work) / "model" / PRUNER), copies) != tags["fingerprint"]:
            raise DataError(expected=f"files of {pruner} that stay as they are", got="others meanwhile", fix=made_by)
        tags |= {TIMED: sha256(copies[LATENCY])}
        model = registry.upload(Path(work) / "model", tags, experiment)  # may take minutes: nobody's turn waits for it
    with turn(registry):
        if found := registry.versions("fingerprint", tags["fingerprint"]):  # another process was first
            registry.forget(model)
            tags.pop(TIMED)
            return _again(registry, found[-1], tags, text), False
        version = registry.create(model, tags, text)
    measure(registry, version, _metrics(evidence))
    registry.point(CANDIDATE, version.number)
    return version, True


def _weights(folder: Path) -> tuple[Path, Path]:
    return folder / WEIGHTS, folder / CONFIG


def _again(registry: Registry, version: Version, tags: Mapping[str, str], text: str) -> Version:
    """The same bytes: their lineage is set anew where it was not complete (an uncommitted lock, a run not yet sent)."""
    if any(version.tags.get(key) != wanted for key, wanted in gate.CLEAN.items()) or not version.tags.get(
        "train.run_id"
    ):
        registry.tag(dict(tags), version.number)
        registry.describe(version.number, text)
    if registry.aliases().get(CHAMPION) != version.number:
        registry.point(CANDIDATE, version.number)
    return registry.version(version.number)


def _rows(scores: Path, evidence: Evidence) -> list[dict[str, Any]]:
    """The score rows with what is saved at each prune ratio."""
    rows = read_json(scores, "dvc repro")["rows"]
    costs = {"flops_ratio": evidence.flops_ratio, "speedup": evidence.speedup}
    return [row | {name: by[row["pruned_percent"]] for name, by in costs.items()} for row in rows]


def _metrics(evidence: Evidence) -> dict[str, float]:
    """Averages by prune ratio, for the page of the model."""
    scores = {
        f"{name}_{percent}": float(values.mean())
        for percent, samples in evidence.samples.items()
        for name, values in samples.metrics.items()
        if len(values)
    }
    ratios = {f"flops_ratio_{percent}": value for percent, value in evidence.flops_ratio.items() if percent}
    return scores | ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m stages.registry.register", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("pruner", help="one of grid.trained in params.yaml")
    parser.add_argument("--json", default="", help="file that gets the version's number")
    run(partial(main, parser.parse_args()))
