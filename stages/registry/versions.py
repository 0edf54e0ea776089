"""Versions of the registered model: tags, aliases and files, with an evaluation that any machine can compare."""

import logging
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stages.core import tracking
from stages.core.errors import DataError, masked
from stages.core.io import MANIFEST, alone, read_json, read_manifest, read_parquet, sha256
from stages.registry.gate import METRICS, Evidence, Samples

REGISTER = "python -m stages.registry.register recon"
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
WEIGHTS, CONFIG = "model.safetensors", "config.json"  # as in pruning/checkpoint.py, which imports torch
ROOT = Path(__file__).parents[2]
PACKAGES = ("mlflow", "torch", "transformers", "safetensors", "numpy", "jaxtyping")
ARTIFACTS = "artifacts"  # where pyfunc puts the folders of a version: pruner, evaluation
ADDRESS = re.compile(r"(?:models:/)?(?:(?P<name>\w[\w.\- ]*)[/@])?@?(?P<version>[\w.\-]+)")
SCORES, ROWS, UNPRUNED = "scores.json", "scores.parquet", "unpruned.parquet"
FLOPS, LATENCY = "efficiency.json", "latency.json"


@dataclass(frozen=True)
class Version:
    """A version as the registry has it."""

    name: str
    number: str
    tags: Mapping[str, str]
    description: str
    model_id: str
    run_id: str


class Registry:
    """The registered model `name` in the checkout's own store, or in that of MLFLOW_TRACKING_URI."""

    def __init__(self, name: str) -> None:
        self.name, self.uri = name, tracking.store_uri()
        self.client: Any = tracking.client(self.uri)

    def lock(self) -> AbstractContextManager[None]:
        """One process at a time changes versions and aliases: a file lock beside the store, or in this checkout."""
        path = Path(self.uri.removeprefix("sqlite:///")).parent if self.uri.startswith("sqlite:///") else Path.cwd()
        return alone(path / ".local/registry.lock", f"change {self.name}", patience_s=90.0)

    def aliases(self) -> dict[str, str]:
        """Alias -> version number; empty when nothing was registered."""
        with self.reporting("its aliases"):
            models = self.client.search_registered_models(f"name = '{self.name}'")
            return {alias: str(number) for alias, number in models[0].aliases.items()} if models else {}

    def version(self, key: str) -> Version:
        """Return the version of a number or an alias. Raises DataError if there is none."""
        number = key if key.isdigit() else self.aliases().get(key)
        if number is None:
            known = ", ".join(f"{alias} = {number}" for alias, number in self.aliases().items()) or "no alias"
            expected, got = f"a version of {self.name} or one of its aliases", f"models:/{self.name}@{key} ({known})"
            raise DataError(expected=expected, got=got, fix=REGISTER)
        with self.reporting(f"version {number}"):
            return _version(self.client.get_model_version(self.name, number))

    def versions(self, tag: str = "", value: str = "") -> list[Version]:
        """All versions, newest first, or those with this value of `tag`."""
        query = f"name = '{self.name}'" + (f" and tags.`{tag}` = '{value}'" if tag else "")
        with self.reporting("its versions"):
            found = pages(partial(self.client.search_model_versions, query))
            return sorted(map(_version, found), key=lambda version: -int(version.number))

    def runs(self, experiment: str, query: str = "") -> list[Any]:
        """Runs of the experiment, newest first, those that stages have not sent yet included."""
        tracking.send_unsent()
        with self.reporting("the runs of stages"):
            found = self.client.get_experiment_by_name(experiment)
            ids, order = [found.experiment_id] if found else [], ["attributes.start_time DESC"]
            search = partial(self.client.search_runs, ids, query, order_by=order)
            return list(pages(search)) if ids else []

    def create(
        self, files: Path, tags: Mapping[str, str], description: str, experiment: str, metrics: Mapping[str, float]
    ) -> Version:
        """Log `files` as a LoggedModel, an output of the training run with its metrics, and register it."""
        from mlflow.entities import LoggedModelOutput, Metric

        run_id, clean = tags.get("train.run_id") or None, masked(dict(tags))
        with self.reporting("a new version"):
            if not self.client.search_registered_models(f"name = '{self.name}'"):
                self.client.create_registered_model(self.name)
            place = tracking.experiment_id(self.client, experiment)
            model = self.client.create_logged_model(place, self.name, run_id, clean, model_type="pruner")
            self.client.log_model_artifacts(model.model_id, str(files))
            model = self.client.finalize_logged_model(model.model_id, "READY")
            if run_id:
                self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
                now_ms = int(time.time() * 1000)
                values = [Metric(k, v, now_ms, 0, model_id=model.model_id, run_id=run_id) for k, v in metrics.items()]
                self.client.log_batch(run_id, metrics=values)
            # Stores return a version without its model_id: the tag has it
            tagged = clean | {"model.id": model.model_id}
            about: dict[str, Any] = {"tags": tagged, "description": masked(description)}
            # With a model and no run, MLflow's SQLite side looks for the model in the store of the process, not in ours
            about["model_id"] = model.model_id if run_id or self.uri.startswith("http") else None
            return _version(self.client.create_model_version(self.name, model.artifact_location, run_id, **about))

    def point(self, alias: str, number: str) -> None:
        """Let `alias` name version `number`; no version if that is empty. One write: readers see the old or the new."""
        with self.reporting(f"to set its alias {alias}"):
            if number:
                self.client.set_registered_model_alias(self.name, alias, number)
            elif alias in self.aliases():
                self.client.delete_registered_model_alias(self.name, alias)

    def tag(self, number: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version; None removes one."""
        with self.reporting(f"to tag version {number}"):
            for key, value in tags.items():
                if value is not None:
                    self.client.set_model_version_tag(self.name, number, key, masked(value))
                elif key in self.version(number).tags:
                    self.client.delete_model_version_tag(self.name, number, key)

    def describe(self, number: str, text: str) -> None:
        """Replace the description of a version (Markdown)."""
        with self.reporting(f"to describe version {number}"):
            self.client.update_model_version(self.name, number, masked(text))

    def fetch(self, version: Version, folder: Path) -> Path:
        """Copy the files of a version below `folder`. Raises DataError for other weights than were registered."""
        with self.reporting(f"the files of version {version.number}"):
            from mlflow import artifacts

            source = self.client.get_model_version_download_uri(self.name, version.number)
            copy = Path(artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=self.uri))
        weights = pruner_of(copy) / WEIGHTS
        wanted, got = version.tags.get("weights.sha256", ""), sha256(weights) if weights.is_file() else "no such file"
        if wanted and got != wanted:
            expected = f"{WEIGHTS} of {self.name} version {version.number} with sha256 {wanted}"
            raise DataError(expected=expected, got=got, fix=f"register it again: `{REGISTER}`")
        return copy

    def evidence(self, version: Version) -> Evidence:
        """Read the evaluation files of a version. Raises DataError if they are missing, or its weights are others."""
        with TemporaryDirectory() as work:
            folder = self.fetch(version, Path(work)) / ARTIFACTS
            encoder = str(read_json(folder / "pruner" / CONFIG, REGISTER).get("encoder", ""))
            files = {name: folder / "evaluation" / name for name in (SCORES, ROWS, UNPRUNED, FLOPS, LATENCY)}
            return read_evidence(files, version.number, encoder, version.tags, REGISTER)

    def reporting(self, purpose: str) -> AbstractContextManager[None]:
        """Turn what the store refuses inside into errors for users."""
        return tracking.answering(self.uri, f"{self.name}: {purpose}")


def _version(found: Any) -> Version:
    tags = dict(found.tags)
    about = found.description or "", tags.get("model.id", ""), found.run_id or ""
    return Version(found.name, str(found.version), tags, *about)


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """All results of an MLflow search, page after page."""
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page


def pruner_of(copy: Path) -> Path:
    """The folder with weights and config in the fetched files of a version, which may be nothing but these."""
    inner = copy / ARTIFACTS / "pruner"
    return inner if inner.is_dir() else copy


def package(pruner: Path, evaluation: Mapping[str, Path], width: int, folder: Path) -> None:
    """Write the files of a version: weights, evaluation, loader and its code, signature. No pickle."""
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    tokens, scores = (TensorSpec(np.dtype(np.float32), (-1, -1, -1, *more)) for more in ((width,), ()))
    with TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow recommends type hints
        logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)
        files = {"pruner": {name: pruner / name for name in (WEIGHTS, CONFIG, MANIFEST)}, "evaluation": evaluation}
        for name, paths in files.items():
            (Path(work) / name).mkdir()
            for file, path in paths.items():
                shutil.copyfile(path, Path(work) / name / file)
        pyfunc.save_model(
            str(folder),
            python_model=str(ROOT / "stages/registry/loader.py"),
            artifacts={name: f"{work}/{name}" for name in files},
            code_paths=[str(ROOT / "stages"), str(ROOT / "fastdrive.py")],
            pip_requirements=[f"{name}=={installed(name)}" for name in PACKAGES],
            signature=ModelSignature(Schema([tokens]), Schema([scores])),
        )


def fetch_model(address: str, folder: Path) -> Path:
    """Copy the weights of `models:/<name>@<alias>` or `models:/<name>/<version>` below `folder`; return their folder.

    An alias is looked up once: if it moves meanwhile, the copy is the old version or the new one, whole. Raises
    DataError for an unknown model or changed weights, MachineError when the registry cannot be reached.
    """
    parts = ADDRESS.fullmatch(address)
    if not parts or not parts["name"]:
        expected = "models:/<name>@<alias> or models:/<name>/<version>"
        raise DataError(expected=expected, got=repr(address), fix="correct the address")
    registry = Registry(parts["name"])
    pruner = pruner_of(registry.fetch(registry.version(parts["version"]), folder))
    read_manifest(pruner, REGISTER)
    return pruner


def results_of(pruner: str, results: Path) -> dict[str, Path]:
    """Return the path of each evaluation file of `pruner`, as the DVC graph writes it."""
    return {
        SCORES: results / f"scores/{pruner}.json",
        ROWS: results / f"scores/{pruner}.parquet",
        UNPRUNED: results / "scores/none.parquet",
        FLOPS: results / f"efficiency/{pruner}.json",
        LATENCY: results / f"latency/{pruner}.json",
    }


def read_evidence(
    files: Mapping[str, Path], version: str, encoder: str, tags: Mapping[str, str], made_by: str
) -> Evidence:
    """Read `files` (by the names above). Raises DataError for one that is missing, damaged or of another kind."""
    scores, flops, latency = (read_json(files[name], made_by) for name in (SCORES, FLOPS, LATENCY))
    rows, unpruned = (read_parquet(files[name], made_by).to_pylist() for name in (ROWS, UNPRUNED))
    columns = dict(zip(METRICS, ("l2_m", "collision", "intersection"), strict=True))
    try:
        errors_cm = {row["token"]: average(row, "l2_m") for row in unpruned}
        unparsed = {row["pruned_percent"]: row["unparsed"] for row in scores["rows"]}
        samples = {}
        for percent in sorted(unparsed):
            some = [row for row in rows if row["pruned_percent"] == percent]
            some.sort(key=lambda row: str(row["token"]))
            samples[percent] = Samples(
                tuple(row["token"] for row in some),
                tuple(row["scene"] for row in some),
                {name: np.array([average(row, column) for row in some], float) for name, column in columns.items()},
                np.array([errors_cm.get(row["token"], np.nan) for row in some], float),
                unparsed[percent],
            )
        flops_ratio = {row["percent"]: row["ratio"]["with_vision"] for row in flops["paper"]["rows"]}
        speedups = latency["phases"]["end_to_end"]["speedups"].items()
        speedup = {int(name): one["ratio"] for name, one in speedups if name.isdigit()}
        return Evidence(version, encoder, scores["protocol"], tags, samples, flops_ratio, speedup)
    except (KeyError, TypeError, ValueError) as error:
        where, fix = files[SCORES].parent, f"run `{made_by}`"
        raise DataError(expected=f"tables of scores and costs in {where}", got=repr(error), fix=fix) from error


def average(row: Mapping[str, Any], column: str) -> float:
    """Return the mean over 1, 2 and 3 s of a key frame, times 100: metres as cm, shares as percent."""
    return float(100 * np.mean([row[f"{column}_{s}s"] for s in (1, 2, 3)]))
