"""What the page says with numbers: the headline, Table 4, and agreement with the truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.params import Params
from stages.planning.tables import cells
from stages.report import rows as tables
from stages.report.captions import images
from stages.report.figures import flops_bars, svg
from stages.report.inputs import Inputs
from stages.report.page import Facts, Gallery, Group, Picture, Section, Table, Words
from stages.report.provenance import verdict_line

Row = dict[str, Any]
RESULTS = Path("results")

NO_SINGLE_ACCOUNTING = (
    "The paper's 38.2 and 3.6 TFLOPs cannot be one accounting: 38.2 is reached only with the vision tower (20.2) at "
    "two FLOPs per multiply-add, 3.6 only without it; from 3,249 to 812 tokens no way of counting shrinks the work "
    "more than 4.6 times, and 38.2 / 3.6 is 10.6."
)
SMALL_WORLD = (
    "The data set is drawn and the driver is small (the embedded default): protocol and comparison are the paper's, "
    "the metres are not to be set beside its own."
)


def headline(
    params: Params, inputs: Inputs, scores: Sequence[Row], shared_scenes: int, sources: Sequence[tuple[str, str]]
) -> Section:
    """Which data, which protocol, which seed, the first numbers, and `sources` (provenance.py); `shared_scenes` are in
    both splits."""
    unpruned = next(row for row in scores if row["method"] == "none")
    grid, about = params.grid, inputs.about
    pairs = [
        ("Evaluated on", f"{about['split']} of {params.scenes.root}: N = {unpruned['n']}, {unpruned['scenes']} scenes"),
        ("Trained on", f"{params.scenes.train_split}: {shared_scenes} scenes shared with the evaluation"),
        ("Protocol", f"{about['protocol']}, unparsed answers: {about['unparsed']}"),
        (
            "Driver",
            f"{params.vla.name} from {params.vla.checkpoint}, images {images(params.vla)}",
        ),
        ("Visual tokens", f"{unpruned['tokens_total']}, pruned by {', '.join(f'{p} %' for p in grid.percents)}"),
        ("Seeds", f"{_seeds(params)}intervals {params.score_plans.seed}"),
        ("L2 unpruned", _average(unpruned)),
        *(
            (f"L2 {r['method']}, {r['pruned_percent']} % pruned", _average(r))
            for r in scores
            if r["method"] in grid.trained[:1]
        ),
        *sources,
    ]
    words = [Words(SMALL_WORLD)] if params.scenes.oracle_root else []
    verdict = [Words(f"Verdict: {verdict_line(params, RESULTS)}.")] if grid.trained else []
    return Section("Result in brief", [*verdict, Facts(pairs), *words])


def _seeds(params: Params) -> str:
    """Of the main trained pruner, where there is one."""
    return f"training {params.training(params.grid.trained[0]).seed}, " if params.grid.trained else ""


def _average(row: Row) -> str:
    (value,) = cells([row], {"": "{l2_cm_avg:.1f} cm [{l2_cm_avg_low:.1f}, {l2_cm_avg_high:.1f}]"})[0]
    return value


def efficiency_section(params: Params, inputs: Inputs, beside: Sequence[Table | Words]) -> Section:
    """Table 4: counted at the paper's shapes and the driver's, measured here, and `beside` the paper's own figures."""
    tera, mega = (tables.flops_rows(inputs.efficiency, at, unit) for at, unit in (("paper", 1e12), ("driver", 1e6)))
    last = main_method(params)
    bars = [{**row, "label": _label(last, row["percent"])} for row in inputs.efficiency[last]["paper"]["rows"]]
    alt = f"TFLOPs by part, unpruned and with {last}: the vision tower stays the same, the decoder shrinks"
    counted = inputs.efficiency[last]["paper"]
    worst = max(abs(part["difference"]) for part in counted["checked"].values())
    setting = f"{counted['tokens']:,} visual and {counted['prompt_tokens']} text tokens"
    return Section(
        "Table 4: efficiency",
        [
            Words(
                f"Counted in closed form at Qwen2.5-VL-3B's shapes, {setting}; torch's own counter on the real modules "
                f"differs by {100 * worst:.4f} % at most. Ratios are unpruned / pruned; causal counts the half of the "
                "decoder's attention that a causal mask leaves."
            ),
            by_ratio(
                "TFLOPs until the first answer token, at the paper's shapes", tera, tables.FLOPS_COLUMNS, "table4_flops"
            ),
            Gallery([Picture(svg(flops_bars(bars)), "svg+xml", alt)]),
            *beside,
            by_ratio(
                f"MFLOPs of the driver at hand ({params.vla.name})", mega, tables.FLOPS_COLUMNS, "table4_flops_driver"
            ),
            by_ratio(
                _measured_on(inputs.latency, last),
                tables.latency_rows(inputs.latency),
                tables.LATENCY_COLUMNS,
                "table4_latency",
            ),
        ],
    )


def main_method(params: Params) -> str:
    """The pruner whose figures stand for all where one is shown: the main trained one, where there is one."""
    return [*params.grid.pruners, *params.grid.trained[:1]][-1]


def _label(method: str, percent: int) -> str:
    return f"{method}, {percent} % pruned" if percent else "unpruned"


def _measured_on(records: Mapping[str, Any], last: str) -> str:
    """Machine and rounds of the method `last`; the load beside it by all, which alone can blur every ratio."""
    latency, machine = records[last], records[last]["machine"]
    n = latency["phases"]["prefill"]["timings"]["0"]["n"]
    load = [record["clocks"][when]["load_1_min"] for record in records.values() for when in ("before", "after")]
    where = f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}"
    return (
        f"Measured on the driver at hand, batch 1 ({where}): medians of {n} interleaved rounds; × = unpruned / pruned "
        "with its 95 % interval. The row none is one call measured twice: what this machine calls no difference. "
        f"Decode: {latency['answer_tokens'] - 1} tokens. "
        f"Load of the machine meanwhile (Unix load average): {min(load):.1f} to {max(load):.1f}."
    )


def by_ratio(caption: str, rows: Sequence[Row], columns: Mapping[str, str], file: str = "") -> Table:
    """A group per prune ratio, which then needs no column."""
    shown = {heading: form for heading, form in columns.items() if form not in ("{pruned_percent}", "{tokens_kept}")}
    percents = list(dict.fromkeys(row["pruned_percent"] for row in rows))
    parts = {percent: [row for row in rows if row["pruned_percent"] == percent] for percent in percents}
    groups = [Group(cells(part, shown), _ratio(part[0])) for part in parts.values()]
    return Table(caption, list(shown), groups, file=file)


def _ratio(row: Row) -> str:
    percent, kept = row["pruned_percent"], row.get("tokens_kept")
    return (f"{percent} % pruned" if percent else "Unpruned") + (f": {kept:,} tokens" if kept else "")


def plain(caption: str, rows: Sequence[Row], columns: Mapping[str, str], file: str = "") -> Table:
    """One group without a title."""
    return Table(caption, list(columns), [Group(cells(rows, columns))], file=file)


def truth_section(inputs: Inputs, samples: Sequence[Gallery], ranking: Sequence[Gallery | Table | Words]) -> Section:
    """Masks, and against the drawn world's truth: how good the masks are, how methods rank and keep foreground."""
    blocks: list[Gallery | Table | Words | Facts] = [*samples]
    masks = tables.mask_rows(inputs.masks)
    if masks:
        groups = [
            Group(cells([row for row in masks if row["of"] == of], tables.MASK_COLUMNS), f"By {of}")
            for of in ("class", "camera")
        ]
        caption = (
            "Agreement of the masks with the drawn world's truth: intersection over union, 95 % intervals over scenes"
        )
        blocks.append(Table(caption, list(tables.MASK_COLUMNS), groups, file="masks"))
    return Section("Foreground", [*blocks, *ranking])
