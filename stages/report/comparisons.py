"""How the page shows Tables 2 and 3: ours, the difference to the main pruner in numbers and words, the paper's."""

from collections.abc import Mapping, Sequence

from stages.planning.tables import TABLE_1
from stages.report import paper
from stages.report import rows as tables
from stages.report.ablations import DIFFERENCE_COLUMNS, PAPER_PERCENT, Comparison, Row, Tables, in_words
from stages.report.captions import Setting
from stages.report.driving import SHADES, shaded
from stages.report.page import Group, Section, Table, Words

SPANS = ("L2", "Collision", "Intersection")  # groups of columns, named above them
ELSEWHERE = (
    "Not comparable with the table above: the paper's own rows as printed, Impromptu-VLA on the 6,019 entries of "
    "nuScenes. Driver, world, samples or tokens are others: of these numbers only the order may be set beside ours."
)
DIFFERENCES = (
    "Method − {main}, frame by frame on the same frames; below 0 the method is better. 95 % intervals by resampling "
    "scenes. One training run each: what another seed would change is not in them."
)


def objectives_section(found: Comparison, main: str, setting: Setting) -> Section:
    """Table 2: every trained pruner by what it learned from."""
    about = "Pixel rec.: is the image rebuilt? Adv. (adversarial): is the background learned from, too?"
    return _section("Table 2: what training learns from", found, main, setting, about=about, number=2)


def attentions_section(found: Comparison, main: str, setting: Setting) -> Section:
    """Table 3: text attention with and without the true mask beside the main pruner."""
    about = (
        "masked_text_attention keeps what the masks call foreground first (the paper's Gt-mask + Text-attn), and so is "
        "a ruler, no method; text_attention keeps what the text attends to."
    )
    return _section("Table 3: text attention", found, main, setting, about=about, number=3)


def written(found: Mapping[str, Comparison | None], setting: Setting) -> Tables:
    """The tables of each comparison by its name (`table2`, `table3`), for people and machines; none where it is absent.

    The paper's rows stand among ours where the setting is its own.
    """
    files: Tables = {}
    for name, comparison in found.items():
        if comparison is not None:
            about = tables.TRAINED_FOR if "pixels" in comparison.rows[-1] else {}
            printed = paper.table(int(name[-1])) if setting.papers else []
            files[name] = (paper.beside(comparison.rows, printed), {"Method": "{method}", **about, **TABLE_1})
            files[f"{name}_differences"] = (comparison.differences, DIFFERENCE_COLUMNS)
    return files


def _section(title: str, found: Comparison, main: str, setting: Setting, *, about: str, number: int) -> Section:
    learned = tables.TRAINED_FOR if number == 2 else {}
    ours = {"Method": "{method}", **learned, **tables.SCORE_COLUMNS}
    printed = paper.table(number)
    rows = paper.beside(found.rows, printed) if setting.papers else found.rows
    caption = (
        f"{_ratio(found.percent)} {about} The other columns are those of Table 1. {SHADES.format(baseline='none')}"
    )
    differences = Group(shaded(found.differences, DIFFERENCE_COLUMNS, "{0}"))
    words = " ".join(in_words(row) for row in found.differences)
    blocks: list[Table | Words] = [
        measured(f"{caption} {setting.beside}", {"": rows}, ours, f"table{number}"),
        Table(
            DIFFERENCES.format(main=main), list(DIFFERENCE_COLUMNS), [differences], file=f"table{number}_differences"
        ),
        Words(f"At {found.percent} % pruned: {words}"),
    ]
    if not setting.papers:
        theirs = {"Method": "{method}", **learned, **paper.COLUMNS}
        blocks.append(
            measured(f"{ELSEWHERE} {PAPER_PERCENT} % pruned.", {f"The paper's Table {number}": printed}, theirs)
        )
    return Section(title, blocks)


def _ratio(percent: int) -> str:
    if percent == PAPER_PERCENT:
        return f"{percent} % pruned, as in the paper."
    return f"{percent} % pruned, the middle ratio: the paper's {PAPER_PERCENT} % is not among grid.percents."


def measured(caption: str, groups: Mapping[str, Sequence[Row]], columns: Mapping[str, str], file: str = "") -> Table:
    """A table whose columns of L2, Collision and Intersection stand under their names; groups of rows by title."""
    names = [heading.split(" ")[0] if heading.split(" ")[0] in SPANS else "" for heading in columns]
    headings = [heading.removeprefix(f"{name} ") for heading, name in zip(columns, names, strict=True)]
    units = {"L2": "L2 (cm)", "": ""} | {name: f"{name} (%)" for name in SPANS[1:]}
    first = names.index(SPANS[0])
    above = [("", first), *((units[name], names.count(name)) for name in SPANS)]
    if rest := len(names) - sum(span for _, span in above):
        above.append(("", rest))
    shown = [Group(shaded(rows, columns), title) for title, rows in groups.items()]
    return Table(caption, headings, shown, above, file=file)
