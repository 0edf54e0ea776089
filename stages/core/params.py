"""params.yaml as one frozen typed tree: types, bounds and units of every number that changes a result; no defaults."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from stages.core.errors import ParamsError, with_hint

PARAMS_FILE = Path("params.yaml")
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Plugin = Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]*|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")]  # a name, or module:Class
Options = dict[str, JsonValue]  # of a plug-in: plain YAML values, lists and mappings of them
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
OracleBound = Literal["oracle", "inverse"]  # pruners that read the truth of a drawn world
Masked = Literal["masked_text_attention"]  # reads the masks of generate_masks
Control = Literal["other_image", "black_image"]  # drives without the image's meaning
Bound = Literal["blind_floor", "constant_velocity", "recorded_future"]  # no driver, no image


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Grid(Section):
    """Rows and prune ratios of the tables. DVC's matrix reads these lists; a new name re-runs only its own cells."""

    pruners: list[Name]  # methods of stages/pruning without training
    trained: list[Name]  # methods whose weights a stage of the graph makes
    external: list[Name]  # methods of other packages
    references: list[OracleBound | Masked | Control]  # what the others are compared with; oracles need oracle_root
    bounds: list[Bound]  # planned by score_plans
    percents: list[Annotated[int, Field(ge=1, lt=100)]]  # prune ratios, percent removed

    @property
    def methods(self) -> list[str]:
        """Return every method whose cost is profiled."""
        return [*self.pruners, *self.external, *self.trained]

    @property
    def names(self) -> list[str]:
        """Return every row that is planned and scored."""
        return [*self.methods, *self.references, *self.bounds]

    def plan_stage(self, name: str) -> str:
        """Return the DVC stage that plans a row of `names`."""
        if name in self.bounds:
            return "score_plans"
        if name in self.pruners:
            return f"plan_routes@{name}"
        if name in self.references:
            return "plan_references"
        return f"plan_trained@{name}" if name in self.trained else f"plan_external@{name}"

    def ratios_of(self, name: str) -> list[int]:
        """Return the prune ratios of a row; the unpruned driver, controls and bounds have 0 alone."""
        return [0] if name in ("none", *get_args(Control), *self.bounds) else list(self.percents)


class Scenes(Section):
    """The nuScenes data set and its training and evaluation splits."""

    root: str  # folder with <version>/, samples/, maps/, can_bus/
    version: str
    train_split: str
    eval_split: str
    oracle_root: str | None  # per-image truth of the drawn world; null on real data


class MakeWorld(Section):
    """The drawn world: size and seed. Scene i of the data set is drawn from `seed + i`."""

    seed: Annotated[int, Field(ge=0)]
    train_scenes: Positive
    val_scenes: Positive
    samples_per_scene: Annotated[int, Field(ge=8, le=40)]  # key frames at 2 Hz
    size_px: tuple[Positive, Positive]  # W, H
    workers: Positive


class RayPool(Section):
    """Actors of a Ray cluster; each loads the annotator once."""

    address: str | None  # of a running cluster; null: one on this machine, for as long as the stage runs
    actors: Positive
    cpus_per_actor: Annotated[float, Field(gt=0)]
    gpus_per_actor: Annotated[float, Field(ge=0)]  # 0.5: two actors share a GPU
    shards_ahead: Positive  # that wait at each actor beside the one in work


class GenerateMasks(Section):
    """nuScenes-FG: annotator, shard size and engine. Only the first two shape the masks."""

    annotator: Name
    images_per_shard: Positive  # about: scenes stay whole where they are smaller
    engine: Literal["local", "ray"]
    workers: Positive  # processes of engine local; with models on GPUs one for each GPU at most
    ray: RayPool


class Vla(Section):
    """The driver and the image size it gets."""

    name: Plugin
    checkpoint: str
    # Of a released snapshot, as `sha256sum *.safetensors | sha256sum` in its folder; the small driver has a manifest
    checkpoint_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    size_px: tuple[Positive, Positive]  # W, H given to the vision tower, multiples of 28
    fit: Literal["stretch", "pad", "budget"]  # budget: `max_pixels` in the image's own shape, whatever size_px says
    max_pixels: Annotated[int, Field(ge=784)]
    questions: str | None  # LLaMA-Factory's sharegpt JSON; null: made from the data set and its CAN bus
    questions_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    answer_tokens: Positive  # most tokens of an answer of a released driver
    answer_format: Literal["x-y", "dx-dy", "polar", "dist-theta", "dist-dtheta", "dist-curvature"]


class DriverVision(Section):
    """Shape of the small vision tower; the class is Qwen2.5-VL's own."""

    depth: Positive
    width: Positive
    mlp: Positive
    heads: Positive
    full_attention: list[Annotated[int, Field(ge=0)]]  # blocks that see the whole image; the others see 112 px windows


class DriverLanguage(Section):
    """Shape of the small language model."""

    layers: Positive
    width: Positive
    mlp: Positive
    heads: Positive
    kv_heads: Positive
    rope_theta: Annotated[float, Field(gt=1)]
    mrope_section: tuple[Positive, Positive, Positive]  # rotary pairs for t, h, w; their sum is half a head


class TrainDriver(Section):
    """The small driver of the embedded default: pool of drawn scenes, tower phase, language-model phase."""

    seed: Annotated[int, Field(ge=0)]
    pool_seed: Annotated[int, Field(ge=0)]  # scene i of the pool is drawn from `pool_seed + i`
    pool_scenes: Positive
    holdout_scenes: Annotated[int, Field(ge=2)]  # for the figures beside the weights
    frames_per_scene: Annotated[int, Field(ge=1, le=20)]
    vision: DriverVision
    language: DriverLanguage
    tower_steps: Positive
    language_regression_steps: Positive
    language_answer_steps: Positive
    batch_size: Positive
    tower_lr: Rate
    language_lr: Rate
    threads: Positive


class TrainPruner(Section):
    """ReconPruner. docs/explanation/departures.md lists defaults that the paper does not state."""

    objective: Literal["reconstruction", "mask_prediction"]  # pixels from kept and dropped tokens; the mask from S
    adversarial: bool  # is the background learned from, too? Without it, L = L_fore
    seed: Annotated[int, Field(ge=0)]
    steps: Positive
    batch_size: Positive  # images a step over all ranks
    size_px: tuple[Positive, Positive]  # W, H given to the vision tower in training, multiples of 28
    fit: Literal["stretch", "pad"]
    pruner_lr: Rate
    decoder_lr: Rate
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    decoder_first_steps: Annotated[int, Field(ge=0)]  # at the start: it learns, the pruner stands still
    pruner_clip_norm: Annotated[float, Field(gt=0)] | None  # of the gradient, before the step; null: as it is
    decoder_clip_norm: Annotated[float, Field(gt=0)] | None
    alpha: Share  # weight of the foreground branch, Eq. 8
    ssim_weight: Share  # lambda of Eq. 7
    ssim_window_px: Annotated[int, Field(ge=3)]
    mask_threshold: Share  # a token is foreground when more than this share of its pixels is
    other_splits: bool  # learn from scenes.eval_split, too, as the paper's 241k images do: nothing is then held out
    held_out_scenes: Positive  # of the training split, kept from training: where the curves and AUC come from
    init: Literal["random", "checkpoint"]  # weights of the layers at the start; checkpoint: its first decoder layers
    decoder_layers: Positive
    decoder_width: Positive
    pixels_per_token: Positive  # side of the square that one token paints
    straight_through: Literal["sigmoid", "identity"]
    standardise: bool  # tokens by mean and deviation of the training images'
    position_code: bool  # an absolute position, added to the tokens after masking
    decoder_head_std: Annotated[float, Field(ge=0)] | None  # of its first weights; null: as torch draws a linear layer
    zero_stage: Annotated[int, Field(ge=0, le=2)]
    bf16: bool
    recompute: bool  # the decoder's activations in the backward pass: less memory, a quarter more of its work
    workers: Annotated[int, Field(ge=0)]  # processes that decode and resize images; 0: this one
    token_cache: str | None  # folder that keeps the visual tokens of the frozen tower; null: encoded at each draw
    feature_memory_gb: Annotated[float, Field(ge=0)]  # sets of tokens and targets up to this size stay in memory
    checkpoint_every_s: Annotated[float, Field(gt=0)]
    checkpoints_kept: Positive  # the last ones, besides the best on held-out images
    publish: Literal["last", "best"]  # which weights become models/<pruner>; best has the lowest held-out loss
    threads: Positive

    @model_validator(mode="after")
    def _pruner_learns(self) -> "TrainPruner":
        if self.objective == "reconstruction" and self.decoder_first_steps >= self.steps:
            expected = f"decoder_first_steps below the {self.steps} steps of a pruner in params.yaml"
            got = f"{self.decoder_first_steps}, which leaves the pruner none to learn in"
            raise ParamsError(
                expected=expected, got=got, fix="lower train_pruner.decoder_first_steps, or raise the steps"
            )
        return self


class PlanRoutes(Section):
    """Inference of the driver: batch size, shards and engine."""

    batch_size: Positive
    threads: Positive  # of each worker
    scenes_per_shard: Positive  # a shard is planned at one go and never again: what a killed run repeats
    engine: Literal["local", "ray"]
    workers: Positive  # processes of engine local; they take the GPUs in turn
    ray: RayPool


class ScorePlans(Section):
    """The open-loop protocol, the samples it is applied to, and its intervals."""

    protocol: Plugin
    samples: str  # all key frames, complete (a whole future), stp3 (and two past), or the path of a question file
    samples_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None  # of that file; null with the other lists
    unparsed: Literal["zeros", "skip"]  # an answer without a plan stands still, or leaves the denominator
    answers_follow: Literal["imu", "lidar"]  # the point of the car that the driver's answers are of
    resamples: Positive  # bootstrap
    seed: Annotated[int, Field(ge=0)]
    workers: Positive  # processes, a scene at a time


class ProfileEfficiency(Section):
    """FLOPs at the paper's shapes, latency of the driver at hand."""

    prompt_tokens: Annotated[int, Field(ge=0)]  # L text tokens beside the visual ones
    grid: tuple[Positive, Positive]  # h, w of merged tokens
    answer_tokens: Annotated[int, Field(ge=2)]  # the first comes with the prefill
    pairs: Positive  # interleaved measurements of each phase
    threads: Positive


class MakeReport(Section):
    """Contents of the page."""

    overlay_frames: Positive
    overlay_methods: list[Name]  # whose tokens and paths are drawn over these frames; of grid.pruners and grid.trained
    mask_samples: Positive
    worst_samples: Annotated[int, Field(ge=0)]  # of each pruner, with answer and pictures


class Tracking(Section):
    """MLflow. The store is SQLite in the checkout unless MLFLOW_TRACKING_URI says otherwise."""

    experiment: str


class Averages(Section):
    """One number for each planning metric: the average over 1, 2 and 3 s."""

    l2_cm: Annotated[float, Field(ge=0)]
    collision_pct: Annotated[float, Field(ge=0)]
    intersection_pct: Annotated[float, Field(ge=0)]


class Ratio(Averages):
    """Limits of the gate at one prune ratio: errors at most, savings at least."""

    flops_ratio: Annotated[float, Field(ge=0)]  # unpruned / pruned at the paper's shapes, vision counted
    speedup: Annotated[float, Field(ge=0)]  # unpruned / pruned, measured end to end


class Registry(Section):
    """MLflow's registry, and the gate that a version passes before it may be the champion."""

    name: Name  # of the registered model
    auto: bool  # may `flows.promote --auto` promote what the gate passed, without a person?
    samples: Positive  # fewer scored key frames prove nothing
    unparsed_pct: Annotated[float, Field(ge=0, le=100)]  # answers without a plan, at most
    limits: dict[str, Ratio]  # by prune ratio in percent
    margins: Averages  # upper end of the 95 % interval of candidate - champion on the same frames, at most


class Drift(Section):
    """Limits of drift: how far means over the canary scenes may move from the champion's."""

    canary: list[str] | None  # scenes with masks and scores; null: all that are scored
    foreground_share: Annotated[float, Field(ge=0, le=1)]
    saliency_entropy: Annotated[float, Field(ge=0, le=1)]  # 1 is equal scores everywhere
    l2_cm: Annotated[float, Field(ge=0)]


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
    trained: dict[Name, dict[str, Any]]  # keys of train_pruner with another value for one trained pruner
    pruners: dict[Name, Options]
    plan_routes: PlanRoutes
    score_plans: ScorePlans
    profile_efficiency: ProfileEfficiency
    make_report: MakeReport
    registry: Registry
    drift: Drift
    tracking: Tracking

    def training(self, name: str) -> TrainPruner:
        """Return train_pruner with the keys that `trained.<name>` overrides."""
        changed = self.train_pruner.model_dump(mode="json") | self.trained[name]
        return TrainPruner.model_validate_json(json.dumps(changed))

    @model_validator(mode="after")
    def _rows_have_options(self) -> "Params":
        """Refuse rows of the grid without options, unknown rows in make_report, and oracles that read another truth."""
        oracles = [name for name in self.grid.references if name in get_args(OracleBound)]
        masked = [name for name in self.grid.references if name in get_args(Masked)]
        rows = {"pruners": [*self.grid.methods, *oracles, *masked], "trained": self.grid.trained}
        for section, names in rows.items():
            if missing := [name for name in names if name not in getattr(self, section)]:
                raise ParamsError(
                    expected=f"an entry under {section} for each name of grid in params.yaml",
                    got=f"none for {', '.join(missing)}",
                    fix=f"add `{missing[0]}: {{}}` under {section}",
                )
        known = [name for name in self.grid.methods if name != "none"]
        if unknown := [name for name in self.make_report.overlay_methods if name not in known]:
            raise ParamsError(
                expected=f"make_report.overlay_methods among grid.pruners and grid.trained: {', '.join(known)}",
                got=", ".join(unknown),
                fix=f"take {unknown[0]} out of make_report.overlay_methods, or add it to the grid",
            )
        truth: Options = {"oracle_root": self.scenes.oracle_root, "fit": self.vla.fit}
        for name in oracles:
            if self.pruners[name] != truth:
                raise ParamsError(
                    expected=f"pruners.{name} equal to scenes.oracle_root and vla.fit: {truth}",
                    got=f"{self.pruners[name]}",
                    fix=f"edit pruners.{name}, or take {name} out of grid.references (real data has no such truth)",
                )
        return self


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Return the checked tree. Raises ParamsError with the key, what was expected there and what stands there."""
    if not path.is_file():
        raise ParamsError(expected=f"the parameters in {path}", got="no such file", fix="git checkout params.yaml")
    try:
        return parse_params(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ParamsError(expected=f"YAML in {path}", got=str(error), fix=f"edit {path}") from error


def parse_params(text: str, path: Path) -> Params:
    """Return the checked tree of `text`, which is called `path` in the ParamsError of a fault."""
    prefix = ""
    try:
        raw = yaml.safe_load(text)
        params = Params.model_validate_json(json.dumps(raw, default=str))  # strict: lists as tuples, no "3" as 3
        for name in params.trained:
            prefix = f"trained.{name}."
            params.training(name)
    except ValidationError as error:
        raise _as_params_error(error, path, prefix) from error
    except yaml.YAMLError as error:
        raise ParamsError(expected=f"YAML in {path}", got=str(error), fix=f"edit {path}") from error
    return params


def flat(prefix: str, value: Any) -> dict[str, str]:
    """Return a value of params.yaml as dotted names and text."""
    if not isinstance(value, dict):
        return {prefix: json.dumps(value) if isinstance(value, list) else str(value)}
    return {key: text for name, part in value.items() for key, text in flat(f"{prefix}.{name}", part).items()}


def _as_params_error(error: ValidationError, path: Path, prefix: str) -> ParamsError:
    """Return the first fault of what stands under `prefix`; an unknown key with the nearest known one."""
    fault = error.errors()[0]
    if isinstance(ours := fault.get("ctx", {}).get("error"), ParamsError):
        return ours
    key = prefix + ".".join(str(part) for part in fault["loc"])
    fix = f"edit {key} in {path} ({error.error_count()} wrong in all)"
    if fault["type"] == "extra_forbidden":
        schema = Params.model_json_schema()
        known = [name for part in (schema, *schema["$defs"].values()) for name in part.get("properties", ())]
        got = f"{key}: {with_hint(str(fault['loc'][-1]), known)}"
        return ParamsError(expected="only the keys that `fastdrive explain` lists", got=got, fix=fix)
    got = "nothing" if fault["type"] == "missing" else repr(fault["input"])
    return ParamsError(expected=f"{key}: {fault['msg']}", got=got, fix=fix)
