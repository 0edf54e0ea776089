"""Register a trained pruner as a version of MLflow's model `registry.name` with the alias `candidate`.

The same weights and scores registered again are the same version. Not a DVC stage, which a run cache skips.

python -m stages.registry.register recon     # reads models/<pruner>, its results, dvc.lock
"""

import argparse
import logging
from collections.abc import Mapping
from contextlib import chdir
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core.command import run
from stages.core.errors import DataError, ParamsError
from stages.core.graph import open_graph
from stages.core.io import check_file, fingerprint, read_json, read_manifest, sha256
from stages.core.params import Params
from stages.core.provenance import git_says, lineage, locked, locked_outs
from stages.planning.tables import to_markdown
from stages.registry import versions
from stages.registry.gate import CLEAN, Evidence
from stages.registry.versions import CONFIG, LATENCY, SCORES, WEIGHTS, Registry, Version

log = logging.getLogger(__name__)
FROM_CHECKOUT = ("git.commit", "git.branch", "dvc.stage", "dvc.lock.sha256", "params.sha256", "env.lock.sha256")
FROM_TRAINING = ("seed", "hardware", "prefect.flow_run_id")

# The model card
COLUMNS = {
    "pruned %": "{pruned_percent}",
    "N": "{n}",
    "unparsed": "{unparsed}",
    "L2 avg. cm [95 %]": "{l2_cm_avg:.1f} [{l2_cm_avg_low:.1f}, {l2_cm_avg_high:.1f}]",
    "Collision avg. % [95 %]": "{collision_pct_avg:.2f} [{collision_pct_avg_low:.2f}, {collision_pct_avg_high:.2f}]",
    "Intersection avg. %": "{intersection_pct_avg:.2f}",
    "FLOPs, unpruned / pruned": "{flops_ratio:.2f}",
    "measured speed-up, eager host": "{speedup:.2f}",
}
ORIGIN = {
    "weights (sha256)": "weights.sha256",
    "weights (DVC)": "dvc.md5",
    "commit": "git.commit",
    "params.yaml (sha256)": "params.sha256",
    "packages (sha256 of requirements.lock)": "env.lock.sha256",
    "training run": "train.run_id",
}
METHODS = {
    "recon": "ReconPruner: one decoder layer that scores visual tokens, trained by reconstructing both grounds",
    "foreground_only": "ReconPruner trained without the background branch (an ablation)",
    "mask_prediction": "the network of ReconPruner trained to tell foreground (an ablation)",
}
DRAWN = (
    "Learned from and scored on a drawn world (`make_world`), with the small driver of `train_driver`: no image of "
    "nuScenes and no weight of Qwen went in. Trained on those, their licences go along:"
)
REAL = "Learned from and scored on nuScenes, on the tokens of the vision tower named below; their licences go along:"
LICENCES = """\
- Qwen2.5-VL-3B weights: Qwen Research Licence, for research and other non-commercial use.
- nuScenes images, boxes and maps: CC BY-NC-SA 4.0 and the nuScenes terms of use, non-commercial.
- ReconPruner as a method: FastDriveVLA; cite the paper."""
USE = """\
For: choosing, before the language model, which visual tokens a Qwen2.5-VL driving model keeps, with the vision encoder
named below and no other (it is refused by its fingerprint); research on planning from recorded drives.

Not for: driving a vehicle. Its figures are open-loop, against what a person drove, and say nothing of a closed loop,
of other cameras, or of weather and places that the data do not have."""


def main(words: argparse.Namespace, params: Params) -> None:
    version, _ = register(Registry(params.registry.name), words.pruner, params)
    print(version.number)


def register(registry: Registry, pruner: str, params: Params) -> tuple[Version, bool]:
    """Return the version of the pruner in this checkout, and whether it is a new one.

    Raises ParamsError for a pruner that is not trained here, DataError for files, MachineError without the registry.
    """
    if pruner not in params.grid.trained:
        raise ParamsError(expected=f"one of {', '.join(params.grid.trained)}", got=repr(pruner), fix="name one of them")
    made_by, folder, experiment = "dvc repro", Path("models", pruner), params.tracking.experiment
    read_manifest(folder, made_by)
    weights, config_file = (check_file(folder, name, made_by) for name in (WEIGHTS, CONFIG))
    config, files = read_json(config_file, made_by), versions.results_of(pruner, Path("results"))
    tags = provenance(Path.cwd(), pruner, config)
    evidence = versions.read_evidence(files, "", tags["encoder"], tags, made_by)
    hashes = {name: sha256(path) for name, path in files.items() if name != LATENCY}  # timings differ on every run
    tags |= {"protocol": evidence.protocol, "fingerprint": fingerprint(sha256(weights), sha256(config_file), hashes)}
    tags |= training_run(registry, experiment, tags["weights.sha256"])
    costs = {"flops_ratio": evidence.flops_ratio, "speedup": evidence.speedup}
    rows = read_json(files[SCORES], made_by)["rows"]
    rows = [row | {name: by[row["pruned_percent"]] for name, by in costs.items()} for row in rows]
    results = {"Results": f"Protocol {tags['protocol']}; intervals resample scenes.\n\n{to_markdown(rows, COLUMNS)}"}
    origin = {heading: tags.get(tag, "") for heading, tag in ORIGIN.items()}
    load, drawn = f'fastdrive.load("models:/{registry.name}@champion")', params.scenes.oracle_root is not None
    text = model_card(f"{registry.name}: {pruner}", pruner, config, results, load=load, origin=origin, drawn=drawn)
    with registry.lock():
        found = registry.versions("fingerprint", tags["fingerprint"])
        if found:
            version = found[-1]
            if not CLEAN.items() <= version.tags.items() or not version.tags.get("train.run_id"):
                registry.tag(version.number, tags)  # it was not committed then, or the run not yet recorded
                registry.describe(version.number, text)
                version = registry.version(version.number)
        else:
            with TemporaryDirectory() as work:
                model = Path(work) / "model"
                versions.package(folder, files, int(config["layer"]["width"]), model)
                version = registry.create(model, tags, text, experiment, _metrics(evidence))
        if registry.aliases().get(versions.CHAMPION) != version.number:
            registry.point(versions.CANDIDATE, version.number)
    log.info("%s %s version %s of %s", pruner, "is already" if found else "is", version.number, registry.name)
    return version, not found


def provenance(root: Path, pruner: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Tags of `models/<pruner>` and its results: commit, dvc.lock, params, packages, weights.

    `git.dirty` counts every file; `dvc.status` is clean if DVC finds code, params, data and outputs of the pruner and
    its results as dvc.lock has them. Raises DataError without a dvc.lock.
    """
    weights = f"models/{pruner}"
    outs = {out["path"]: stage for stage, entry in locked(root).items() for out in entry.get("outs", [])}
    if weights not in outs:
        got = "one without it" if outs else "no dvc.lock"
        raise DataError(expected=f"a dvc.lock with {weights}", got=got, fix="dvc repro")
    results = [f"results/{kind}/{pruner}.json" for kind in ("scores", "efficiency")]
    stale = stale_stages(root, sorted({outs[path] for path in (weights, *results) if path in outs}))
    tags = lineage(root, outs[weights])
    return {key: tags[key] for key in FROM_CHECKOUT if key in tags} | {
        "git.dirty": str(bool(git_says(root, "status", "--porcelain")) or not tags.get("git.commit")).lower(),
        "dvc.status": f"changed: {', '.join(stale)}" if stale else "clean",
        "dvc.md5": locked_outs(root)[weights],
        "pruner": pruner,
        "encoder": str(config.get("encoder", "")),
        "weights.sha256": sha256(root / weights / WEIGHTS),
    }


def stale_stages(root: Path, stages: list[str]) -> list[str]:
    """`stages`, and those they depend on, that DVC would run again."""
    with chdir(root), open_graph(root) as repo:
        return sorted(repo.status(stages, with_deps=True))


def training_run(registry: Registry, experiment: str, weights: str) -> dict[str, str]:
    """Tags that name the newest finished run which trained the weights with this sha256; empty if there is none."""
    for newest in registry.runs(experiment, f"tags.`weights.sha256` = '{weights}' and attributes.status = 'FINISHED'"):
        tags = newest.data.tags
        found = {"train.run_id": newest.info.run_id, "train.git.commit": tags.get("git.commit", "")}
        return {key: tags[key] for key in FROM_TRAINING if key in tags} | found
    return {}


def _metrics(evidence: Evidence) -> dict[str, float]:
    """Averages by prune ratio, metrics of the LoggedModel."""
    scores = {
        f"{name}_{percent}": float(values.mean())
        for percent, samples in evidence.samples.items()
        for name, values in samples.metrics.items()
        if len(values)
    }
    return scores | {f"flops_ratio_{percent}": value for percent, value in evidence.flops_ratio.items() if percent}


def model_card(
    title: str,
    method: str,
    config: Mapping[str, Any],
    sections: Mapping[str, str],
    *,
    load: str,
    origin: Mapping[str, str],
    drawn: bool,
) -> str:
    """Return a card, as Markdown; `sections` stand between its use and its licences; `drawn`: the world is made up."""
    scenes, view = config.get("scenes", {}), config.get("view", {})
    facts = {
        "images learned from": f"{scenes.get('images')} of split {scenes.get('split')}, {scenes.get('version')}",
        "image size": f"{view.get('size_px')} px, {view.get('fit')}",
        "vision encoder": config.get("encoder", ""),
        "masks (sha256 of the manifest)": config.get("masks", ""),
        **origin,
    }
    parts = {
        "Use": USE,
        **sections,
        "Data and licences": f"{DRAWN if drawn else REAL}\n\n{LICENCES}",
        "Load": f"```python\n{load}\n```",
        "Origin": to_markdown([{"what": key, "value": f"`{value}`"} for key, value in facts.items()]),
    }
    text = "\n\n".join(f"## {heading}\n\n{part.strip()}" for heading, part in parts.items())
    return f"# {title}\n\n{METHODS.get(method, f'a pruner trained as {method}')}.\n\n{text}\n"


if __name__ == "__main__":
    program = "python -m stages.registry.register"
    parser = argparse.ArgumentParser(prog=program, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pruner", help="one of grid.trained in params.yaml")
    run(partial(main, parser.parse_args()))
