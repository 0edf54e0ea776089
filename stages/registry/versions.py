"""MLflow's registry: versions of a pruner with their files, tags and aliases. Answers at once."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core import tracking
from stages.core.errors import DataError
from stages.core.io import MANIFEST, read_manifest, sha256, write_bytes
from stages.core.secrets import masked

REGISTER = "python -m stages.registry.register recon"
WEIGHTS, CONFIG = "model.safetensors", "config.json"  # as in checkpoint.py, whose import of torch takes seconds
ROOT = Path(__file__).parents[2]
LOADER, CODE = ROOT / "stages/registry/loader.py", [ROOT / "stages", ROOT / "fastdrive.py"]
PACKAGES = ("mlflow", "torch", "transformers", "safetensors", "numpy", "jaxtyping")
PRUNER, EVALUATION = "artifacts/pruner", "artifacts/evaluation"  # in a version's files, where MLflow puts them
ADDRESS = re.compile(r"(?:models:/)?(?:(?P<name>\w[\w.\- ]*)[/@])?@?(?P<what>[\w.\-]+)")


@dataclass(frozen=True)
class Version:
    """A version as the registry has it."""

    name: str
    number: str
    tags: Mapping[str, str]
    description: str
    source: str
    run_id: str


class Registry:
    """The registered model `name` in the store of this checkout, or the one that MLFLOW_TRACKING_URI names."""

    def __init__(self, name: str) -> None:
        self.name, self.uri = name, tracking.store_uri()
        self.client: Any = tracking.client(self.uri)

    def ready(self) -> None:
        """Make the registered model when it is not there."""
        with self.answering("to register it"):
            if not self.client.search_registered_models(f"name = '{self.name}'"):
                make_once(self.client, self.name)

    def aliases(self) -> dict[str, str]:
        """Alias -> version number; empty when nothing was registered."""
        with self.answering("its aliases"):
            found = self.client.search_registered_models(f"name = '{self.name}'")
            return {alias: str(number) for alias, number in found[0].aliases.items()} if found else {}

    def tags(self) -> dict[str, str]:
        """Tags of the registered model itself."""
        with self.answering("its tags"):
            found = self.client.search_registered_models(f"name = '{self.name}'")
            return dict(found[0].tags) if found else {}

    def version(self, what: str) -> Version:
        """The version of a number or an alias. Raises DataError when there is none."""
        number = what if what.isdigit() else self.aliases().get(what)
        if number is None:
            held = ", ".join(f"{alias} = {number}" for alias, number in self.aliases().items()) or "no alias"
            raise DataError(
                expected=f"a version of {self.name} or one of its aliases",
                got=f"models:/{self.name}@{what} ({held})",
                fix=REGISTER,
            )
        with self.answering(f"version {number}"):
            return _version(self.client.get_model_version(self.name, number))

    def versions(self, tag: str = "", value: str = "") -> list[Version]:
        """All versions, newest first, or those with a tag of that value."""
        asked = f"name = '{self.name}'" + (f" and tags.`{tag}` = '{value}'" if tag else "")
        with self.answering("its versions"):
            search = self.client.search_model_versions
            found = list(pages(lambda token: search(asked, page_token=token)))
        return sorted(map(_version, found), key=lambda version: -int(version.number))

    def upload(self, files: Path, tags: Mapping[str, str], experiment: str) -> Any:
        """The files that `package` wrote, in the store as a model of MLflow that is no version yet."""
        with self.answering("the files of a new version"):
            run_id = tags.get("train.run_id") or None
            model = self.client.create_logged_model(
                self._experiment(experiment), self.name, run_id, masked(dict(tags)), model_type="pruner"
            )
            self.client.log_model_artifacts(model.model_id, str(files))
            return self.client.finalize_logged_model(model.model_id, "READY")

    def forget(self, model: Any) -> None:
        """Drop what was uploaded and is no version."""
        with self.answering("to drop the files of a version that is there already"):
            self.client.delete_logged_model(model.model_id)

    def create(self, model: Any, tags: Mapping[str, str], description: str) -> Version:
        """A new version of the files that `upload` brought. Not seen by anybody before all of it is there."""
        with self.answering("a new version"):
            run_id = tags.get("train.run_id") or None
            about: dict[str, Any] = {
                "tags": masked({**tags, "model.id": model.model_id}),
                "description": masked(description),
            }
            # With a model and no run, MLflow's SQLite side looks for it in the store of the process, not in ours
            about["model_id"] = model.model_id if run_id or self.uri.startswith("http") else None
            made = self.client.create_model_version(self.name, model.artifact_location, run_id, **about)
            return _version(made)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name, tracking.artifact_root()))

    def point(self, alias: str, number: str | None) -> None:
        """Let `alias` name that version, or no version. One write: a reader sees the old version or the new one."""
        with self.answering(f"to set its alias {alias}"):
            if number is None:
                self.client.delete_registered_model_alias(self.name, alias)
            else:
                self.client.set_registered_model_alias(self.name, alias, number)

    def tag(self, tags: Mapping[str, str | None], number: str = "") -> None:
        """Set tags of a version, or of the registered model without `number`; None removes one."""
        client = self.client
        place, where = ("model_version", (self.name, number)) if number else ("registered_model", (self.name,))
        with self.answering(f"to tag version {number}" if number else "to tag it"):
            for key, value in tags.items():
                if value is None:
                    getattr(client, f"delete_{place}_tag")(*where, key)
                else:
                    getattr(client, f"set_{place}_tag")(*where, key, masked(value))

    def describe(self, number: str, text: str) -> None:
        """Replace the description of a version (Markdown)."""
        with self.answering(f"to describe version {number}"):
            self.client.update_model_version(self.name, number, masked(text))

    def attach(self, version: Version, file: Path) -> None:
        """Add a file to a version's files, or replace it."""
        with self.answering(f"to add {file.name} to version {version.number}"):
            self.client.log_model_artifact(version.tags["model.id"], str(file))

    def fetch(self, version: Version, folder: Path) -> Path:
        """The files of a version, copied below `folder`. Raises DataError for weights other than those registered."""
        with self.answering(f"the files of version {version.number}"):
            from mlflow import artifacts

            source = self.client.get_model_version_download_uri(self.name, version.number)
            got = Path(artifacts.download_artifacts(source, dst_path=str(folder), tracking_uri=self.uri))
        pruner = got / PRUNER if (got / PRUNER).is_dir() else got
        wanted = version.tags.get("weights.sha256", "")
        came = sha256(pruner / WEIGHTS) if (pruner / WEIGHTS).is_file() else "no such file"
        if wanted and came != wanted:
            raise DataError(
                expected=f"{WEIGHTS} of {self.name} version {version.number} with sha256 {wanted}",
                got=came,
                fix=f"register it again: `{REGISTER}`",
            )
        return got

    def answering(self, wanted: str) -> Any:
        """What the store refuses, in a user's words."""
        return tracking.answering(self.uri, f"{self.name}: {wanted}")


def _version(found: Any) -> Version:
    about = (dict(found.tags), found.description or "", found.source, found.run_id or "")
    return Version(found.name, str(found.version), *about)


def pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Everything that a search of MLflow finds, page after page."""
    token = None
    while True:
        page = search(token)
        yield from page
        if not (token := page.token):
            return


def make_once(client: Any, name: str, tags: Mapping[str, str] | None = None) -> bool:
    """Make a registered model; False when it is there. The store lets one of two processes succeed."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, dict(tags or {}))
        return True
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False


def package(pruner: Path, evaluation: Mapping[str, Path], folder: Path) -> None:
    """Write what a version holds: weights, what speaks for them, the loader and its code. No signature, no pickle."""
    tracking.settings()
    from mlflow import pyfunc

    with TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's wishes for a signature
        logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)
        shown = {"pruner": Path(work) / "pruner", "evaluation": Path(work) / "evaluation"}
        _copy({name: pruner / name for name in (WEIGHTS, CONFIG, MANIFEST)}, shown["pruner"])
        _copy(evaluation, shown["evaluation"])
        pyfunc.save_model(
            str(folder),
            python_model=str(LOADER),
            artifacts={name: str(path) for name, path in shown.items()},
            code_paths=list(map(str, CODE)),
            pip_requirements=[f"{name}=={installed(name)}" for name in PACKAGES],
        )


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    for name, path in files.items():
        write_bytes(folder / name, path.read_bytes(), sync=False)


def fetch_model(address: str, folder: Path) -> Path:
    """The folder with the weights of `models:/<name>@<alias>` or `models:/<name>/<version>`, copied below `folder`.

    An alias is looked up once: moved meanwhile, it is the old version or the new one, whole. Raises DataError when the
    registry holds no such model or other weights than were registered, MachineError when it cannot be reached.
    """
    found = ADDRESS.fullmatch(address)
    if not found or not found["name"]:
        raise DataError(expected="models:/<name>@<alias> or models:/<name>/<version>", got=repr(address), fix="mend it")
    registry = Registry(found["name"])
    got = registry.fetch(registry.version(found["what"]), folder)
    pruner = got / PRUNER if (got / PRUNER).is_dir() else got
    read_manifest(pruner, REGISTER)
    return pruner
