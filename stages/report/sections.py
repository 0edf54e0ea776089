"""The sections of the page, in its order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import DataError
from stages.core.io import sha256
from stages.core.params import Grid, Params, TrainPruner, Vla
from stages.core.provenance import code_commit, locked_outs
from stages.masks.mask_set import MaskSet
from stages.registry.gate import Verdict, judge, rules_of
from stages.registry.versions import read_evidence, results_of
from stages.report import costs, figures, paper
from stages.report.driving import CONTROLS, UNPRUNED, Driving, compared_at, recorded
from stages.report.figures import svg
from stages.report.images import encoded, kept_tokens, paths_in_view, road_from_above, shrunk, tinted
from stages.report.inputs import TRAINING, Cell, Inputs, Row, Samples, made_by, read_answers, trained_by
from stages.report.page import Block, Case, Cases, Facts, Gallery, Group, Picture, Section, Slider, Table
from stages.report.tables import Sheet, block, by_ratio, cells
from stages.scenes.base import Frame
from stages.scenes.images import read_image
from stages.scenes.nuscenes import Scenes

FRONT = "CAM_FRONT"
WIDE_PX, SMALL_PX = 560, 240  # pictures of a gallery, and of a case
SHOWN = 12  # signs of a hash

SMALL_WORLD = (
    "The data set is drawn and the driver is small (the embedded default): protocol and comparison are the paper's, "
    "the metres are not to be set beside its own. What this can show: which pruner keeps the information that this "
    "driver needs; not which one is best on a real VLA."
)
DRIVER = (
    "The driver is the true Qwen2.5-VL class at small width, with the current speed as its only prompt: "
    "{tower[samples]:,} samples of {tower[images]:,} drawn images for the vision tower, frozen afterwards, then "
    "{language[samples]:,} samples for the language model, of {tower[scenes]:,} scenes that the data set has not. In "
    "training it has met random token subsets of every kind, drawn independently of every pruner here."
)
APART = (
    "The paper's own rows as printed, Impromptu-VLA on the 6,019 entries of nuScenes. Driver, world and tokens are "
    "others: only the order may be set beside ours."
)
UNKNOWN = "Of the paper's rows N, checkpoint and unparsed answers are not known: it does not state them."


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    params: Params
    inputs: Inputs
    driving: Driving
    tables: Mapping[str, Sheet]  # of driving and of cost
    setting: str  # how the driver's numbers were made
    papers: bool  # in the paper's own setting
    advice: Row | None
    scenes: Scenes


def sections(report: Report) -> list[Section]:
    """Return the whole page. Raises DataError naming the stage whose files are missing."""
    params, inputs, scenes, tables = report.params, report.inputs, report.scenes, report.tables
    grid, mine, masks = params.grid, params.make_report, MaskSet()
    shown = show_frames(scenes, params.scenes.eval_split, mine.overlay_frames, grid)
    verdict = gate_verdict(params) if grid.trained else None
    overlays = [part for one in shown for part in kept_galleries(one, masks, params.vla, grid.percents)]
    plans = [_plans(one, grid.percents, mine.overlay_methods) for one in shown]
    foreground: list[Block] = [_mask_samples(shown[0].frame, masks, mine.mask_samples)]
    foreground += _coverage(scenes, masks, params.scenes.eval_split, mine.mask_samples)
    foreground += [block(tables["masks"], "masks")] if "masks" in tables else []
    return [
        Section("Result in brief", _brief(report, verdict)),
        Section("The driver", _driver(report)),
        *_section("The oracle bound", _oracle_bound(report)),
        Section("Table 1: driving", _table_1(report)),
        *(_section("Table 2: what training learns from", _ablation(report, 2))),
        *(_section("Table 3: text attention", _ablation(report, 3))),
        *_section("By scenario", _scenarios(report)),
        Section("Table 4: efficiency", _table_4(report)),
        Section("Accuracy against cost", _tradeoff(report)),
        Section("What it costs to choose", [by_ratio(tables[n], n) for n in ("choosing", "table4_phases")]),
        Section("Throughput of planning", [block(tables["throughput"], "throughput")]),
        *_section("Training and reconstructions", _training(report)),
        Section("Kept tokens", overlays),
        Section("Plans from ahead and from above", [*plans, _answers_table(shown, mine.overlay_methods)]),
        *_section(
            f"The worst {mine.worst_samples} of each pruner",
            _worst(inputs.samples, scenes, grid, params.vla, mine.worst_samples),
        ),
        Section("Foreground", [*foreground, *_ranking(report)]),
        *_section("Gate", [block(gate_sheet(verdict))] if verdict else []),
    ]


def _section(title: str, blocks: Sequence[Block]) -> list[Section]:
    return [Section(title, blocks)] if blocks else []


def _chart(figure: Any, alt: str, caption: str = "") -> Picture:
    return Picture(svg(figure), "svg+xml", alt, caption)


# Numbers.


def _brief(report: Report, verdict: Verdict | None) -> list[Block]:
    params, inputs, grid = report.params, report.inputs, report.params.grid
    rows = report.driving.methods
    unpruned = next(row for row in rows if row["method"] == UNPRUNED)
    main = [row for row in rows if row["method"] in grid.trained[:1]]
    evaluated = set(report.scenes.split(params.scenes.eval_split))
    common = len(evaluated & set(report.scenes.split(params.scenes.train_split)))
    seeds = [f"training {params.training(name).seed}" for name in grid.trained[:1]]
    made = locked_outs(Path.cwd())
    names = [params.scenes.root, "data/masks", *(f"models/{name}" for name in grid.trained[:1])]
    packages = Path("requirements.lock")
    seconds = [pace["seconds"] for pace in inputs.paces]
    machines = dict.fromkeys(costs.machine_name(record["machine"]) for record in inputs.latency.values())
    pairs = [
        ("Evaluated on", f"{inputs.about['split']} of {params.scenes.root}: N = {unpruned['n']}, {unpruned['scenes']} "
         "scenes"),
        ("Trained on", f"{params.scenes.train_split}: {common} scenes shared with the evaluation"),
        ("Driver", f"{params.vla.name} from {params.vla.checkpoint}"),
        ("Visual tokens", f"{unpruned['tokens_total']}, pruned by {', '.join(f'{p} %' for p in grid.percents)}"),
        ("Seeds", ", ".join([*seeds, f"intervals {params.score_plans.seed}"])),
        *((f"L2 {costs.name_of(row)}", _l2(row)) for row in [unpruned, *main]),
        ("Commit", code_commit(Path.cwd())),
        ("Data and weights (md5 in dvc.lock)", ", ".join(f"{n} {made[n][:SHOWN]}" for n in names if made.get(n))),
        ("Packages (sha256 of requirements.lock)", sha256(packages)[:SHOWN] if packages.is_file() else ""),
        ("Time to plan", f"{sum(seconds):.0f} s for {len(seconds)} rows" if seconds else ""),
        ("Machine of the timings", "; ".join(machines)),
    ]  # fmt: skip
    gate = [f"Gate: {gate_in_words(verdict)}."] if verdict else []
    small = [SMALL_WORLD] if params.scenes.oracle_root else []
    how = f"How the numbers of driving were made: {report.setting} {UNKNOWN if report.papers else ''}"
    return [*gate, Facts([(label, value) for label, value in pairs if value]), *small, how]


def _l2(row: Row) -> str:
    return cells([row], {"": "{l2_cm_avg:.1f} cm [{l2_cm_avg_low:.1f}, {l2_cm_avg_high:.1f}]"})[0][0]


def gate_verdict(params: Params) -> Verdict:
    """Judge the main trained pruner by the limits of `registry`, without asking a registry for its champion.

    Raises ParamsError for a ratio without limits; DataError naming the stage whose results are missing.
    """
    name = params.grid.trained[0]
    made = made_by("profile", name, params.grid)
    evidence = read_evidence(results_of(name, Path("results")), name, "", {}, made)
    return judge(evidence, None, rules_of(params))


def _limits(verdict: Verdict) -> list[Row]:
    """Return the rules about numbers; the others are about the lineage of a registered version."""
    return [row for row in verdict.rows() if "% pruned" in row["rule"]]


def gate_in_words(verdict: Verdict) -> str:
    """Return how many limits are kept, and the first that is not."""
    rows = _limits(verdict)
    missed = [row for row in rows if row["passed"] != "yes"]
    if not missed:
        return f"{verdict.candidate} keeps all {len(rows)} limits"
    first = ", ".join(f"{key} {value}" for key, value in missed[0].items() if key != "passed")
    return f"{verdict.candidate} misses {len(missed)} of {len(rows)} limits, first {first}"


def gate_sheet(verdict: Verdict) -> Sheet:
    """Return the gate's limits as a table."""
    rows = _limits(verdict)
    caption = "Limits of registry in params.yaml; `fastdrive promote` also asks for the lineage and the champion."
    return Sheet(caption, rows, {key: f"{{{key}}}" for key in rows[0]})


def _driver(report: Report) -> list[Block]:
    driver = report.inputs.driver
    words: list[Block] = [DRIVER.format(**driver["trained"])] if driver else []
    names = ("driver", "driver_events", "driver_pool", "driver_pool_events")
    return words + [block(report.tables[name], name) for name in names if name in report.tables]


def _oracle_bound(report: Report) -> list[Block]:
    names = ("oracle_bound", "oracle_bound_pool")
    if names[0] not in report.tables:
        return []
    order = Sheet(
        "The driver can tell a good choice from a bad one where oracle < random_keep < inverse holds.",
        [row | {"verdict": "yes" if row["holds"] else "no"} for row in report.driving.order],
        {
            "Pruned (%)": "{pruned_percent}",
            **{f"{name} (m)": f"{{{name}:.2f}}" for name in ("oracle", "random_keep", "inverse")},
            "holds": "{verdict}",
            "inverse − random_keep [95 %]": "{difference_m:+.2f} [{difference_low:+.2f}, {difference_high:+.2f}]",
        },
    )
    shown: list[Block] = [block(order)] if order.rows else []
    return shown + [by_ratio(report.tables[name], name) for name in names if name in report.tables]


def _table_1(report: Report) -> list[Block]:
    grid, rows, tables = report.params.grid, report.driving.methods, report.tables
    names = [name for name in grid.methods if name != UNPRUNED]
    ratio = ("Pruned (%)", "Tokens")
    alt = f"for {', '.join(names)}; the numbers are in the table above"
    charts = [
        _chart(figures.l2_by_ratio(rows, names), f"L2 over the ratio {alt}", "L2 by prune ratio, 95 % intervals"),
        _chart(
            figures.against_ratio(rows, names),
            f"Difference to the unpruned driver {alt}",
            "The same against the unpruned driver, with the 95 % band of paired resamples; the others pale.",
        ),
    ]
    shown: list[Block] = [
        block(tables["table1"], "table1", _parts(tables["table1"].rows, grid), ratio, stacked=True),
        Gallery(charts),
    ]
    for name in ("table1_differences", "table1_intervals"):
        shown.append(block(tables[name], name, _parts(tables[name].rows, grid), ratio, stacked="intervals" in name))
    return shown + ([] if report.papers else [_printed(1)])


def _parts(rows: Sequence[Mapping[str, Any]], grid: Grid) -> dict[str, list[Mapping[str, Any]]]:
    """Return rows by title in the order of the page."""
    kept = {row["pruned_percent"]: row for row in reversed(rows) if row.get("tokens_kept")}
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        percent = row["pruned_percent"]
        title = f"{percent} % pruned" if percent else "Unpruned"
        if percent and percent in kept:
            title += ": {tokens_kept} of {tokens_total} tokens kept".format_map(kept[percent])
        if row["method"] in CONTROLS:
            title = "Controls: a black image, another scene's, and the best guess without any"
        elif row["method"] in grid.bounds:
            title = "Bounds: plans that see no image"
        parts.setdefault(title, []).append(row)
    return parts


def _printed(number: int) -> Table:
    """Return the paper's own rows, where they cannot stand among ours."""
    rows = paper.table(number)
    learned = {"Pixel rec.": "{pixels}", "Adv.": "{adversarial}"} if number == 2 else {}
    sheet = Sheet(APART, rows, {"Method": "{method}", "Pruned (%)": "{pruned_percent}", **learned, **paper.COLUMNS})
    return by_ratio(sheet)


def _ablation(report: Report, number: int) -> list[Block]:
    names = [name for name in (f"table{number}", f"table{number}_differences") if name in report.tables]
    shown: list[Block] = [block(report.tables[n], n, hide=("Pruned (%)", "Tokens"), stacked=True) for n in names]
    return shown + ([_printed(number)] if names and not report.papers else [])


def _scenarios(report: Report) -> list[Block]:
    sheet, at = report.tables.get("scenarios"), compared_at(report.params.grid.percents)
    if sheet is None:
        return []
    titles = {row["event"]: f"{row['event']}: {row['n']} frames of {row['scenes']} scene(s)" for row in sheet.rows}
    parts = {title: [row for row in sheet.rows if row["event"] == event] for event, title in titles.items()}
    alt = f"L2 minus the unpruned driver's by event and method at {at} % pruned; the numbers are in the table below"
    chart = _chart(figures.by_event(sheet.rows, titles, f"difference_{at}"), alt, f"{at} % pruned, 95 % intervals")
    return [Gallery([chart]), block(sheet, "scenarios", parts, ("Event", "N", "Scenes"))]


def _table_4(report: Report) -> list[Block]:
    tables, last = report.tables, costs.main_method(report.params)
    rows = report.inputs.efficiency[last]["paper"]["rows"]
    labels = [f"{last}, {row['percent']} % pruned" if row["percent"] else "unpruned" for row in rows]
    alt = f"TFLOPs by part, unpruned and with {last}: the vision tower stays the same, the decoder shrinks"
    names = ("table4_flops", "table4_components", "table4_components_7b", "table4_flops_driver", "table4_latency")
    flops, *others = (by_ratio(tables[name], name) for name in names)
    why = ("Nearest accounting", "gives (T)", "Why not one accounting")  # sentences: a table of their own
    reasons = {heading: form for heading, form in paper.TABLE_4.items() if heading in ("Method", *why)}
    lines = cells(tables["table4"].rows, reasons)
    words = Table("The nearest way of summing, and why one does not give all.", [*reasons], [Group(lines)], prose=True)
    chart = _chart(figures.flops_bars(rows, labels), alt)
    return [flops, Gallery([chart]), block(tables["table4"], "table4", hide=why), words, *others]


def _tradeoff(report: Report) -> list[Block]:
    sheet = report.tables["tradeoff"]
    alt = "L2 and Collision against TFLOPs, MFLOPs and milliseconds; the numbers are in the table below"
    chart = _chart(figures.tradeoff(sheet.rows, report.params.profile_efficiency.budget_ms), alt)
    advice = [costs.advice_in_words(report.advice)] if report.advice else []
    return [*advice, Gallery([chart]), by_ratio(sheet, "tradeoff")]


def _ranking(report: Report) -> list[Block]:
    names = [name for name in ("ranking", "ranking_differences") if name in report.tables]
    if not names:
        return []
    rows = report.tables["ranking"].rows
    alt = "Share of true foreground and of objects that each method keeps; the numbers are in the table below"
    chart = _chart(figures.kept_shares(rows, report.params.grid.percents), alt, "What is kept, 95 % intervals")
    return [Gallery([chart]), *(block(report.tables[name], name, stacked=True) for name in names)]


# Training.

KEPT = {"image": "image", **{f"kept_{percent}": f"kept at {percent} % pruned" for percent in (25, 50, 75)}}
STRIPS = {
    "reconstruction": "from the top: image, foreground as target and as painted, background as target",
    "kept_tokens": "from the top: image, kept at 25, 50 and 75 % pruned",
}


def _training(report: Report) -> list[Block]:
    """The first trained pruner with all its examples, the others with the pictures of their last evaluation."""
    params, histories = report.params, report.inputs.histories
    shown: list[Block] = [block(report.tables["training"], "training")] if histories else []
    for i, (name, history) in enumerate(histories.items()):
        options = params.training(name)
        loss = "loss (Eq. 7)" if options.objective == "reconstruction" else "loss of the mask"
        alt = f"Training of {name}: losses; share of kept tokens and AUC for foreground; saliency over the steps"
        shown.append(Gallery([_chart(figures.training_curves(history, loss), alt)], title=name))
        shown += [_strips(name, options)] if i else examples(name, options)
    return shown


def painted_parts(options: TrainPruner) -> dict[str, str]:
    """Return the pictures of what a pruner's training rebuilds, and what they show; none without pixels."""
    if options.objective != "reconstruction":
        return {}
    fore = {"image": "image", "target_fore": "target, foreground", "fore": "rebuilt from kept tokens"}
    back = {"target_back": "target, background", "back": "rebuilt from dropped tokens"}
    return fore | back if options.adversarial else fore


def examples(name: str, options: TrainPruner) -> list[Gallery]:
    """Return a row per held-out image: targets and reconstructions, then the tokens kept."""
    rows = sorted(path.name.removesuffix("_image.png") for path in (TRAINING / name).glob("example_*_image.png"))
    if not rows:
        raise DataError(expected=f"examples in {TRAINING / name}", got="none", fix=f"run `{trained_by(name)}`")
    galleries = []
    for title, parts in {"What it rebuilds": painted_parts(options), "What it keeps": KEPT}.items():
        pictures = [
            _file(TRAINING / name / f"{row}_{part}.png", name, f"held-out {row.replace('_', ' ')}: {caption}", caption)
            for row in rows
            for part, caption in parts.items()
        ]
        galleries += [Gallery(pictures, across=len(parts), title=title)] if pictures else []
    return galleries


def _strips(name: str, options: TrainPruner) -> Gallery:
    """The pictures of the last evaluation: what is rebuilt, where pixels are, and what is kept; a column per image."""
    kinds = [kind for kind in STRIPS if kind != "reconstruction" or painted_parts(options)]
    pictures = []
    for kind in kinds:
        paths = sorted((TRAINING / name / "epochs").glob(f"{kind}_*.png"))  # steps have seven digits
        last = paths[-1] if paths else TRAINING / name / "epochs" / f"{kind}_0000000.png"
        what = STRIPS[kind] + (" and as painted" if kind == "reconstruction" and options.adversarial else "")
        step = f"step {int(last.stem.rsplit('_', 1)[1])}, {what}"
        pictures.append(_file(last, name, f"{name} at {step}", step))
    return Gallery(pictures, across=len(pictures))


def _file(path: Path, name: str, alt: str, caption: str) -> Picture:
    if not path.is_file():
        raise DataError(expected=f"{path}", got="no such file", fix=f"run `{trained_by(name)}`")
    return Picture(path.read_bytes(), "png", alt, caption)


# Key frames.


@dataclass(frozen=True)
class Shown:
    """A key frame with the answers of each method and prune ratio."""

    frame: Frame
    answers: Mapping[Cell, Row]
    drivable: NDArray[np.bool_]

    @property
    def title(self) -> str:
        return title_of(self.frame)


def title_of(frame: Frame) -> str:
    """Return scene, key frame and speed in words."""
    return f"{frame.scene}, key frame {frame.token}, {frame.speed_mps:.1f} m/s"


def show_frames(scenes: Scenes, split: str, count: int, grid: Grid) -> list[Shown]:
    """Return `count` key frames spread evenly over those of `split` whose future is recorded, with the answers."""
    tokens = scenes.tokens(split)
    later = [tokens[int((i + 0.5) * len(tokens) / count) :] for i in range(count)]
    found = [next((frame for frame in map(scenes.frame, part) if frame.complete), None) for part in later]
    frames = [frame for frame in found if frame is not None]
    methods = [name for name in [*grid.trained, *grid.pruners] if name != UNPRUNED]
    order = [(UNPRUNED, 0), *((name, percent) for name in methods for percent in grid.percents)]
    rows = read_answers(order, {frame.token for frame in frames}, grid)
    return [
        Shown(
            frame,
            {cell: by_token[frame.token] for cell, by_token in rows.items() if frame.token in by_token},
            scenes.drivable_mask(frame),
        )
        for frame in frames
    ]


def kept_galleries(shown: Shown, masks: MaskSet, vla: Vla, percents: Sequence[int]) -> list[Block]:
    """Return the front image and its foreground; then what every method kept, at the ratio that the reader chooses."""
    camera = shown.frame.cameras[FRONT]
    image = read_image(camera.path, vla.size_px, vla.fit)
    tint = shrunk(tinted(read_image(camera.path, camera.size_px), masks.mask(camera.token)), WIDE_PX)
    what = f"front camera of {shown.title}"
    first = [
        Picture(encoded(image), "jpeg", f"{what}, as the driver sees it", "as the driver sees it"),
        Picture(encoded(tint), "jpeg", f"{what}, foreground tinted", "foreground"),
    ]
    steps = []
    for percent in percents:
        answers = {name: answer for (name, at), answer in shown.answers.items() if at == percent}
        pictures = [
            Picture(
                encoded(_kept(image, answer), "webp"),
                "webp",
                f"{what}: the tokens {name} kept at {percent} % pruned, the others darkened",
                name,
            )
            for name, answer in answers.items()
        ]
        steps.append((f"{percent} % pruned", Gallery(pictures, across=min(5, max(1, len(pictures))))))
    slider = Slider(f"Kept tokens, {shown.title}", "Prune ratio", steps, start=len(steps) // 2)
    return [Gallery(first, across=3, title=shown.title), slider]


def _kept(image: NDArray[np.uint8], answer: Row) -> NDArray[np.uint8]:
    return kept_tokens(image, np.array(answer["kept"], np.int64), (answer["grid_h"], answer["grid_w"]))


def _plans(one: Shown, percents: Sequence[int], methods: Sequence[str]) -> Gallery:
    """A frame from ahead and from above, a picture per ratio: recorded path, unpruned plan, and those of `methods`."""
    camera = one.frame.cameras[FRONT]
    image = read_image(camera.path, camera.size_px)
    ahead, above = [], []
    for percent in percents:
        order = ((UNPRUNED, 0), *((name, percent) for name in methods))
        plans_m = {name: _path_m(one.answers[name, at]) for name, at in order if (name, at) in one.answers}
        alt = f"{one.title}: the recorded path, and the plans of {', '.join(plans_m)} at {percent} % pruned"
        picture = encoded(shrunk(paths_in_view(image, one.frame, plans_m, camera), WIDE_PX))
        ahead.append(Picture(picture, "jpeg", f"Front camera, {alt}", f"{percent} % pruned, colours as below"))
        road = road_from_above(one.frame, plans_m, one.drivable)
        above.append(Picture(road, "svg+xml", f"From above, {alt}", f"{percent} % pruned"))
    return Gallery([*ahead, *above], 3, one.title)


def _path_m(answer: Row) -> NDArray[np.float64]:
    return np.array(answer["waypoints_m"], np.float64).reshape(6, 2)


def _answers_table(shown: Sequence[Shown], methods: Sequence[str]) -> Table:
    """The raw answers behind the plans."""
    groups = []
    for one in shown:
        rows = [
            [f"{name}, {percent} %" if percent else name, "yes" if answer["parsed"] else "no", answer["answer"]]
            for (name, percent), answer in one.answers.items()
            if name in (UNPRUNED, *methods)
        ]
        groups.append(Group(rows, one.title))
    return Table("Answers of the driver, word for word", ["Method", "Parsed", "Answer"], groups, prose=True)


def worst_rows(samples: Samples, name: str, percents: Sequence[int], count: int) -> list[Row]:
    """Return the `count` samples with the largest error at 3 s, each once at its worst ratio, worst first."""
    largest: dict[str, Row] = {}
    for row in (row for percent in percents for row in recorded(samples[name, percent]).to_dict("records")):
        other = largest.get(row["token"])
        if other is None or row["l2_at_cm_3s"] > other["l2_at_cm_3s"]:
            largest[row["token"]] = row
    return sorted(largest.values(), key=lambda row: (-row["l2_at_cm_3s"], row["token"]))[:count]


def _worst(samples: Samples, scenes: Scenes, grid: Grid, vla: Vla, count: int) -> list[Block]:
    """The worst samples of each pruner: what it kept, where the plan led, and the answer word for word."""
    found = {name: worst_rows(samples, name, grid.ratios_of(name), count) for name in grid.methods}
    frames = {token: scenes.frame(token) for token in sorted({row["token"] for rows in found.values() for row in rows})}
    if not frames:
        return []
    order = list(dict.fromkeys((name, row["pruned_percent"]) for name, rows in found.items() for row in rows))
    answers = read_answers(order, frames, grid)
    seen = {
        token: (frame, read_image(frame.cameras[FRONT].path, vla.size_px, vla.fit), scenes.drivable_mask(frame))
        for token, frame in frames.items()
    }
    shown: list[Block] = [
        "The key frames with the largest error at 3 s, each at the prune ratio where it is worst. Left the front "
        "camera with the dropped tokens dark; right the road from above, recorded path black, plan orange."
    ]
    for name, rows in found.items():
        ends_m = [row["l2_at_cm_3s"] / 100 for row in rows]
        what = f"{len(rows)} key frames, {ends_m[-1]:.1f} to {ends_m[0]:.1f} m off after 3 s" if rows else "none scored"
        cases = [
            _case(row, name, answers[name, row["pruned_percent"]][row["token"]], *seen[row["token"]]) for row in rows
        ]
        shown.append(Cases(f"{name}: {what}", cases))
    return shown


def _case(
    row: Row, name: str, answer: Row, frame: Frame, image: NDArray[np.uint8], drivable: NDArray[np.bool_]
) -> Case:
    percent, what = row["pruned_percent"], title_of(frame)
    at = f"{percent} % pruned" if percent else "unpruned"
    picture = encoded(shrunk(_kept(image, answer) if percent else image, SMALL_PX), "webp")
    events = {"collision_3s": "collides", "intersection_3s": "leaves the road"}
    notes = [at, *(words for key, words in events.items() if row[key]), *(() if answer["parsed"] else ("not parsed",))]
    return Case(
        [
            Picture(picture, "webp", f"{what}: what {name} kept, {at}"),
            Picture(
                road_from_above(frame, _path_m(answer), drivable),
                "svg+xml",
                f"{what}: recorded and planned path from above",
            ),
        ],
        f"{row['l2_at_cm_3s'] / 100:.1f} m off after 3 s, {', '.join(notes)}: {what}",
        answer["answer"],
    )


# Masks.


def _mask_samples(frame: Frame, masks: MaskSet, count: int) -> Gallery:
    """The first `count` cameras of a key frame with their foreground tinted."""
    cameras = list(frame.cameras.items())[:count]
    return Gallery([_tinted(frame, c, masks, masks.row(camera.token)) for c, camera in cameras], across=3)


def extremes(rows: Sequence[Row], count: int) -> dict[str, list[Row]]:
    """Return the `count` rows with the least and with the most `foreground_share`: where an annotator fails it shows.

    One image per scene and camera, or one bad camera would fill the row.
    """
    found = {}
    for sign, title in ((1, "Least foreground"), (-1, "Most foreground")):
        once: dict[tuple[str, str], Row] = {}
        for row in sorted(rows, key=lambda row: (sign * row["foreground_share"], row["token"])):
            once.setdefault((row["scene"], row["camera"]), row)
        found[title] = list(once.values())[:count]
    return found


def _coverage(scenes: Scenes, masks: MaskSet, split: str, count: int) -> list[Block]:
    tokens = set(scenes.tokens(split))
    found = extremes([row for row in masks.rows if row["sample"] in tokens], count)
    return [
        Gallery([_tinted(scenes.frame(r["sample"]), r["camera"], masks, r) for r in rows], across=3, title=title)
        for title, rows in found.items()
        if rows
    ]


def _tinted(frame: Frame, channel: str, masks: MaskSet, row: Row) -> Picture:
    camera = frame.cameras[channel]
    picture = shrunk(tinted(read_image(camera.path, camera.size_px), masks.mask(camera.token)), WIDE_PX)
    share = f"{100 * row['foreground_share']:.1f} % foreground"
    where = f"{channel} of {frame.scene}"
    return Picture(encoded(picture), "jpeg", f"{where}, its foreground tinted: {share}", f"{where}: {share}")
