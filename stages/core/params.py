"""params.yaml as one frozen typed tree. Unknown keys are refused with the nearest name; defaults live only there."""

import json
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from stages.core.errors import ParamsError
from stages.core.faults import check_ruler, first_fault
from stages.core.rules import Drift, Registry
from stages.core.sections import (
    GenerateMasks,
    Grid,
    MakeReport,
    MakeWorld,
    Masked,
    Name,
    Options,
    PlanRoutes,
    PrepareTruths,
    ProfileEfficiency,
    Ruler,
    Scenes,
    ScorePlans,
    Section,
    Tracking,
    TrainDriver,
    TrainPruner,
    Vla,
)

PARAMS_FILE = Path("params.yaml")


class Params(Section):
    """The whole file."""

    grid: Grid
    scenes: Scenes
    vla: Vla
    make_world: MakeWorld
    generate_masks: GenerateMasks
    annotators: dict[Name, Options]
    train_driver: TrainDriver
    train_pruner: TrainPruner
    trained: dict[Name, dict[str, Any]]  # keys of train_pruner that are others for one trained pruner
    pruners: dict[Name, Options]
    plan_routes: PlanRoutes
    prepare_truths: PrepareTruths
    score_plans: ScorePlans
    profile_efficiency: ProfileEfficiency
    make_report: MakeReport
    registry: Registry
    drift: Drift
    tracking: Tracking

    def training(self, name: str) -> TrainPruner:
        """How the trained pruner `name` learns: train_pruner with what stands under `trained.<name>`."""
        changed = self.train_pruner.model_dump(mode="json") | self.trained[name]
        return TrainPruner.model_validate_json(json.dumps(changed))


def read_params(path: Path = PARAMS_FILE) -> Params:
    """The checked tree. Raises ParamsError naming the key, what was wanted and what came."""
    if not path.is_file():
        raise ParamsError(expected=f"the parameters in {path}", got="no such file", fix="git checkout params.yaml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(expected=f"YAML in {path}", got=str(error), fix=f"mend {path}") from error
    try:
        params = Params.model_validate_json(json.dumps(raw, default=str))  # strict: lists as tuples, no "3" as 3
    except ValidationError as error:
        raise first_fault(error, path, Params) from error
    _check_names(params, path)
    return params


def _check_names(params: Params, path: Path) -> None:
    """Raises ParamsError for a row of the grid without its options, and for options that cannot be."""
    rulers = [name for name in params.grid.references if name in get_args(Ruler)]
    masked = [name for name in params.grid.references if name in get_args(Masked)]
    rows = {"pruners": [*params.grid.pruners, *params.grid.trained, *rulers, *masked], "trained": params.grid.trained}
    for section, wanted in rows.items():
        missing = [name for name in wanted if name not in getattr(params, section)]
        if missing:
            raise ParamsError(
                expected=f"an entry under {section} for each name of grid in {path}",
                got=f"none for {', '.join(missing)}",
                fix=f"add `{missing[0]}: {{}}` under {section}",
            )
    for name in params.trained:
        try:
            options = params.training(name)
        except ValidationError as error:
            raise first_fault(error, path, TrainPruner, f"trained.{name}.") from error
        if options.objective == "reconstruction" and options.decoder_first_steps >= options.steps:
            raise ParamsError(
                expected=f"train_pruner.decoder_first_steps in {path} below the {options.steps} steps of {name}",
                got=f"{options.decoder_first_steps}, which leaves its pruner none to learn in",
                fix="lower it, or raise train_pruner.steps",
            )
    _check_overlays(params, path)
    truth = {"oracle_root": params.scenes.oracle_root, "fit": params.vla.fit}
    for name in rulers:
        check_ruler(name, params.pruners[name], truth, path)


def _check_overlays(params: Params, path: Path) -> None:
    """Only what chooses among tokens has a choice to draw."""
    known = [name for name in [*params.grid.pruners, *params.grid.trained] if name != "none"]
    unknown = [name for name in params.make_report.overlay_methods if name not in known]
    if unknown:
        raise ParamsError(
            expected=f"make_report.overlay_methods in {path} among grid.pruners and grid.trained: {', '.join(known)}",
            got=", ".join(unknown),
            fix=f"take {unknown[0]} out of make_report.overlay_methods, or add it to the grid",
        )
