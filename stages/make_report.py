"""Report: scores, profiles, masks and training -> one static page, and its tables as CSV, Markdown and LaTeX.

Inputs: results/, metrics/, data/masks, scenes.root. Outs: reports/index.html, reports/tables/*, reports/plots/*,
reports/figures/*, metrics/summary.json.

    python -m stages.make_report
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.core import tracking
from stages.core.command import run
from stages.core.io import write_bytes, write_json, write_text
from stages.core.params import Params
from stages.core.provenance import code_commit
from stages.core.tracking import Run
from stages.masks.mask_set import MaskSet
from stages.report import (
    comparisons,
    gallery,
    judge,
    ranking,
    scenarios,
    sections,
    table_four,
    table_one,
    training,
    worst,
)
from stages.report.ablations import Comparison, Tables, attentions, objectives
from stages.report.budget import as_metrics, as_tags
from stages.report.captions import Setting, setting
from stages.report.champion import champion_line
from stages.report.costs import Costs, costs, costs_sections
from stages.report.costs import written as costs_written
from stages.report.coverage import coverage_galleries
from stages.report.driving import driving_rows, without_rulers
from stages.report.inputs import Inputs, read_inputs
from stages.report.pace import pace_rows, pace_section
from stages.report.page import Section, Words, figures, render, within
from stages.report.provenance import source_facts
from stages.report.ranking import Ranking
from stages.report.references import References, reference_rows
from stages.report.rows import summary
from stages.report.written import plots, written_tables
from stages.scenes.nuscenes import open_scenes

log = logging.getLogger(__name__)
TITLE = "FastDrive: pruning the visual tokens of a driving model"
PAGE, TABLES, PLOTS, FIGURES = (Path("reports") / name for name in ("index.html", "tables", "plots", "figures"))


@dataclass(frozen=True)
class Found:
    """What the page tells beside scores; None where the grid or the truth does not allow it."""

    setting: Setting
    references: References
    table_2: Comparison | None
    table_3: Comparison | None
    ranked: Ranking | None
    costs: Costs
    scenarios: list[dict[str, Any]]  # by event and method

    def written(self, inputs: Inputs, percents: Sequence[int]) -> Tables:
        """The further tables, by file name."""
        pairs = comparisons.written({"table2": self.table_2, "table3": self.table_3}, self.setting)
        efficiency = table_four.written(inputs) | costs_written(self.costs)
        told = training.written(inputs) | scenarios.written(self.scenarios, percents)
        return pairs | efficiency | ranking.written(self.ranked) | told


def main(params: Params) -> None:
    """Write the tables, the page last."""
    with tracking.stage_run("make_report", params) as record:
        inputs = read_inputs(params)
        every = driving_rows(inputs.samples, inputs.scores, params)
        scores = without_rulers(every, params)
        found = Found(
            setting(inputs.about, scores, params, code_commit(Path.cwd())),
            reference_rows(inputs.samples, every, params),
            objectives(inputs.samples, every, params),
            attentions(inputs.samples, every, params),
            ranking.ranking(inputs.samples, every, params),
            costs(inputs, scores, params),
            scenarios.scenario_rows(inputs.samples, params),
        )
        tables = written_tables(
            inputs, scores, found.references, found.written(inputs, params.grid.percents), found.setting
        )
        for name, (rows, texts) in tables.items():
            for suffix, text in texts.items():
                write_text(TABLES / f"{name}.{suffix}", text)
            record.table(name, rows)
        for name, text in plots(inputs, scores, params.grid).items():
            write_text(PLOTS / name, text)
        write_json(Path("metrics/summary.json"), summary(every))
        record.metrics(as_metrics(found.costs.advice))
        record.tags(as_tags(found.costs.advice))
        shown = _sections(params, inputs, scores, found)
        for name, picture in figures(shown).items():
            write_bytes(FIGURES / name, picture)
            record.figure(FIGURES / name)
        page = within(render(TITLE, shown))
        write_text(PAGE, page)
        _record_page(record, shown, champion_line(params, Path("results")) if params.grid.trained else None)
        record.artifact(TABLES)  # where the page's links lead
    log.info("make_report: %s, %.1f MB; open it in a browser", PAGE, len(page) / 1e6)


def _record_page(record: Run, shown: list[Section], verdict: str | None) -> None:
    """The page as MLflow gets it: with the champion's line where the registry answered."""
    with TemporaryDirectory() as folder:
        copy = PAGE if verdict is None else Path(folder) / PAGE.name
        if verdict is not None:
            first = replace(shown[0], blocks=[Words(f"Verdict: {verdict}."), *shown[0].blocks[1:]])
            write_text(copy, render(TITLE, [first, *shown[1:]]))
        record.artifact(copy)


def _sections(params: Params, inputs: Inputs, scores: list[dict[str, Any]], found: Found) -> list[Section]:
    grid, scenes, masks = params.grid, open_scenes(params.scenes.root, params.scenes.version), MaskSet()
    mine, methods, percents = params.make_report, params.make_report.overlay_methods, params.grid.percents
    every = [name for name in [*grid.trained, *grid.pruners] if name != "none"]
    shown = gallery.show_frames(scenes, params.scenes.eval_split, mine.overlay_frames, grid, every)
    sources = source_facts(params, inputs, code_commit(Path.cwd()), Path.cwd())
    trained_on = set(scenes.split(params.scenes.train_split))
    samples = gallery.mask_samples(shown[0].frame, masks, mine.mask_samples)
    extremes = coverage_galleries(scenes, masks, params.scenes.eval_split, mine.mask_samples)
    main = next(iter(grid.trained), "")
    table_2 = [comparisons.objectives_section(found.table_2, main, found.setting)] if found.table_2 else []
    table_3 = [comparisons.attentions_section(found.table_3, main, found.setting)] if found.table_3 else []
    trained = [training.training_section(inputs, params)] if grid.trained else []
    return [
        sections.headline(
            params, inputs, scores, len(trained_on & set(scenes.split(params.scenes.eval_split))), sources
        ),
        judge.driver_section(inputs, found.references, found.setting.words),
        *judge.ruler_sections(inputs, found.references, found.setting.words),
        table_one.scores_section(grid, scores, found.setting),
        *table_2,
        *table_3,
        *scenarios.scenario_sections(found.scenarios, percents),
        sections.efficiency_section(params, inputs, table_four.blocks(inputs, sections.NO_SINGLE_ACCOUNTING)),
        *costs_sections(found.costs, params, found.setting.words),
        pace_section(pace_rows(grid)),
        *trained,
        Section("Kept tokens", [part for one in shown for part in gallery.overlays(one, masks, params.vla, percents)]),
        Section(
            "Plans from ahead and from above",
            [*gallery.roads(shown, percents, methods), gallery.answers(shown, methods)],
        ),
        *worst.worst_sections(inputs.samples, scenes, grid, params.vla, mine.worst_samples),
        sections.truth_section(inputs, [samples, *extremes], ranking.blocks(found.ranked)),
    ]


if __name__ == "__main__":
    run(main)
