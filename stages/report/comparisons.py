"""How the page shows Tables 2 and 3: ours, the difference to the main pruner in numbers and words, the paper's."""

from collections.abc import Mapping, Sequence

from stages.params import Params
from stages.planning.tables import TABLE_1, cells
from stages.report import rows as tables
from stages.report.ablations import DIFFERENCE_COLUMNS, PAPER_PERCENT, Comparison, Row, Tables, in_words
from stages.report.page import Group, Section, Table, Words
from stages.report.sections import plain

SPANS = ("L2", "Collision", "Intersection")  # groups of columns, named above them
NOT_THE_METRES = (
    "The paper's own rows, as printed: Impromptu-VLA on nuScenes. Our driver is small and its world is drawn, so the "
    "metres and rates are not to be set beside these; the order of the rows may be, within the intervals above."
)
DIFFERENCES = (
    "Method − {main}, frame by frame on the same frames; below 0 the method is better. 95 % intervals by resampling "
    "scenes. One training run each: what another seed would change is not in them."
)


def objectives_section(found: Comparison, params: Params) -> Section:
    """Table 2: every trained pruner by what it learned from."""
    about = "Pixel rec.: is the image rebuilt? Adv. (adversarial): is the background learned from, too?"
    return _section(
        "Table 2: what training learns from",
        found,
        params,
        about=about,
        learned=tables.TRAINED_FOR,
        paper=tables.PAPER_TABLE_2,
    )


def attentions_section(found: Comparison, params: Params) -> Section:
    """Table 3: text attention with and without the true mask beside the main pruner."""
    about = (
        "masked_text_attention keeps what the masks call foreground first (the paper's Gt-mask + Text-attn), and so is "
        "a ruler, no method; text_attention keeps what the text attends to."
    )
    return _section("Table 3: text attention", found, params, about=about, learned={}, paper=tables.PAPER_TABLE_3)


def written(found: Mapping[str, Comparison | None]) -> Tables:
    """The tables of each comparison by its name, for people and machines; none where it is absent."""
    files: Tables = {}
    for name, comparison in found.items():
        if comparison is not None:
            about = tables.TRAINED_FOR if "pixels" in comparison.rows[0] else {}
            files[name] = (comparison.rows, {"Method": "{method}", **about, **TABLE_1})
            files[f"{name}_differences"] = (comparison.differences, DIFFERENCE_COLUMNS)
    return files


def _section(
    title: str,
    found: Comparison,
    params: Params,
    *,
    about: str,
    learned: Mapping[str, str],
    paper: Sequence[Row],
) -> Section:
    ours = {"Method": "{method}", **learned, **tables.SCORE_COLUMNS}
    theirs = {"Method": "{method}", **learned, **tables.PRINTED_COLUMNS}
    main = params.grid.trained[0]
    words = " ".join(in_words(row) for row in found.differences)
    printed = NOT_THE_METRES if params.scenes.oracle_root else "The paper's own rows, as printed."
    return Section(
        title,
        [
            _measured(f"{_ratio(found.percent)} {about} The other columns are those of Table 1.", found.rows, ours),
            plain(DIFFERENCES.format(main=main), found.differences, DIFFERENCE_COLUMNS),
            Words(f"At {found.percent} % pruned: {words}"),
            _measured(f"{printed} {PAPER_PERCENT} % pruned.", paper, theirs),
        ],
    )


def _ratio(percent: int) -> str:
    if percent == PAPER_PERCENT:
        return f"{percent} % pruned, as in the paper."
    return f"{percent} % pruned, the middle ratio: the paper's {PAPER_PERCENT} % is not among grid.percents."


def _measured(caption: str, rows: Sequence[Row], columns: Mapping[str, str]) -> Table:
    """A table whose columns of L2, Collision and Intersection stand under their names."""
    names = [heading.split(" ")[0] if heading.split(" ")[0] in SPANS else "" for heading in columns]
    headings = [heading.removeprefix(f"{name} ") for heading, name in zip(columns, names, strict=True)]
    units = {"L2": "L2 (cm)", "": ""} | {name: f"{name} (%)" for name in SPANS[1:]}
    first = names.index(SPANS[0])
    above = [("", first), *((units[name], names.count(name)) for name in SPANS)]
    if rest := len(names) - sum(span for _, span in above):
        above.append(("", rest))
    return Table(caption, headings, [Group(cells(rows, columns))], above)
