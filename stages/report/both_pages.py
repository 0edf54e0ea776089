"""The sections of the report for two states: each table with differences, charts of both side by side."""

from collections.abc import Sequence

from stages.report.headings import columns_of
from stages.report.made import Made
from stages.report.outline import Part, outline
from stages.report.page import Gallery, Picture, Section, Table, Words
from stages.report.side_by_side import beside, read_table

Blocks = list[Gallery | Table | Words]
LEGEND = (
    "The report's tables in its order. A → B: as the report prints them; one value where both are equal, in grey. "
    "B − A: of the unrounded values, without interval unless the table has one of its own. Bold: they differ. Charts "
    "of A left, of B right; one that is the same in both is shown once."
)


def page_sections(a: Made, b: Made) -> list[Section]:
    """The report's sections that have a table or a chart in either state, and what could not be set side by side."""
    absent = [Words(f"{letter}: {one.absent}.") for letter, one in (("A", a), ("B", b)) if one.absent]
    if not (a.files and b.files):
        return [Section("The report's tables", absent)]
    parts = _parts(a, b)
    changed, sections = 0, []
    for part in parts:
        blocks, count = _blocks(part, a, b)
        changed += count
        sections += [Section(part.title, blocks)] if blocks else []
    told = f"Values that differ: {changed}, in {len({*a.tables} & {*b.tables})} tables of both. {LEGEND}"
    return [Section("The report's tables", [Words(told), *absent, *_pictures(a, b)]), *sections]


def _parts(a: Made, b: Made) -> list[Part]:
    """Sections in B's order, then those of A alone; a last one for tables and charts that no section names."""
    parts = outline(b.page)
    by_title = {part.title: part for part in parts}
    for part in outline(a.page):
        if mine := by_title.get(part.title):
            mine.tables = part.tables | mine.tables if not mine.tables else {**mine.tables, **_more(part, mine)}
        else:
            parts.append(part)
    named = {name for part in parts for name in part.tables}
    rest = {name: "" for name in dict.fromkeys([*b.tables, *a.tables]) if name not in named}
    return [*parts, Part("Further tables", rest)] if rest else parts


def _more(part: Part, than: Part) -> dict[str, str]:
    return {name: caption for name, caption in part.tables.items() if name not in than.tables}


def _blocks(part: Part, a: Made, b: Made) -> tuple[Blocks, int]:
    charts = [name for name in dict.fromkeys([*b.charts, *a.charts]) if part.anchor and _is_of(name, part.anchor)]
    blocks: Blocks = [_charts(name, a, b) for name in charts]
    changed = 0
    for name, caption in part.tables.items():
        mine, theirs = a.table(name), b.table(name)
        if mine is None or theirs is None:
            if mine or theirs:
                blocks.append(Words(f"{name}: only in {'A' if mine else 'B'}."))
            continue
        rows = read_table(mine), read_table(theirs)
        header = list(dict.fromkeys(key for each in rows for row in each for key in row))
        table, count = beside(name, *rows, columns_of(name, header), caption)
        blocks.append(table)
        changed += count
    return blocks, changed


def _is_of(name: str, anchor: str) -> bool:
    """Whether a figure's file is one of the section: `<anchor>-<two digits>.svg`."""
    rest = name.removeprefix(f"{anchor}-").removesuffix(".svg")
    return name.startswith(f"{anchor}-") and rest.isdigit()


def _charts(name: str, a: Made, b: Made) -> Gallery:
    pair = [(letter, one.files.get(f"figures/{name}")) for letter, one in (("A", a), ("B", b))]
    if pair[0][1] == pair[1][1]:
        pair = [("A and B", pair[1][1])]
    only = " (the other state has none)" if None in (pair[0][1], pair[-1][1]) else ""
    pictures = [
        Picture(data, "svg+xml", f"{name} of {letter}", f"{letter}: {name}{only}") for letter, data in pair if data
    ]
    return Gallery(pictures, across=2)


def _pictures(a: Made, b: Made) -> Sequence[Words]:
    """Photographs and overlays are told by name: those that differ."""
    names = [name for name in {**b.md5s, **a.md5s} if name.startswith("figures/") and not name.endswith(".svg")]
    found = sorted(name for name in names if a.md5s.get(name) != b.md5s.get(name))
    told = f": {', '.join(found[:20])}{' …' if len(found) > 20 else ''}" if found else ""
    return [Words(f"{len(found)} of {len(names)} further pictures differ{told}.")] if names else []
