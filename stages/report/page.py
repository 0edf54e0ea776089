"""The page: sections of text, tables and pictures as one HTML file that asks nobody for anything; tables also as files.

Pictures are inside it. Everything that came from a model or a data set is escaped, and the content policy allows one
script (page.js, by its hash) and no request, so an answer such as `<script>` stays text. Without scripts all is there:
tables in their order, the pictures of a slider one below the other.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from stages.core.errors import ParamsError
from stages.planning.tables import absent, cell, fields

Row = Mapping[str, Any]
HERE = Path(__file__).parent
FEW = 5  # scenes: an interval over fewer is rough, and nothing rests on it
GREY_AND_BOLD = (
    f"Grey: the 95 % interval of the paired difference includes 0. Bold: it does not, over {FEW} scenes or more."
)


class Noise(str):
    """A grey cell: the interval of its difference includes 0."""

    tone, style = "noise", "color: gray"


class Clear(str):
    """A bold cell: the interval of its difference, over at least FEW scenes, does not include 0."""

    tone, style = "clear", "font-weight: bold"


@dataclass(frozen=True)
class Sheet:
    """One table of the report. Its CSV has every value of the rows, people see `columns`.

    `columns` maps a heading to a format of a row's values; `L2 (cm) | 1 s` stands under a common heading. Cells of
    differences with an interval are shaded; with `shade` also averages and Rel., by the difference that it names
    (`{0}_minus_none`, filled with l2, collision or intersection).
    """

    caption: str
    rows: Sequence[Row]
    columns: Mapping[str, str]
    shade: str = ""


def interval(key: str, form: str = ".2f") -> str:
    """Return the format of a value with its interval, `<key>_low` to `<key>_high`."""
    return f"{{{key}:{form}}} [{{{key}_low:{form}}}, {{{key}_high:{form}}}]"


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the rows as a DataFrame whose values keep their types."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return pd.DataFrame([[row.get(key) for key in keys] for row in rows], columns=keys, dtype=object)


def exported(sheet: Sheet) -> dict[str, str]:
    """Return the table as text by suffix: csv, md and tex."""
    heads = [heading.replace(" | ", " ") for heading in sheet.columns]
    shown = pd.DataFrame(cells(sheet.rows, sheet.columns, sheet.shade), columns=heads, dtype=object)
    bold = shown.map(lambda text: f"**{text}**" if isinstance(text, Clear) else str(text))
    styler = shown.style.hide(axis="index").map(lambda text: getattr(text, "style", ""))
    styler = styler.format(escape="latex").format_index(escape="latex", axis=1)
    escaped: dict[str, str | int | None] = {sign: f"\\{sign}" for sign in "&%$#_{}"}
    caption = sheet.caption.translate(str.maketrans(escaped))
    return {
        "csv": frame_of(sheet.rows).to_csv(index=False),
        "md": f"{bold.to_markdown(index=False, disable_numparse=True)}\n\n{sheet.caption}\n",
        "tex": styler.to_latex(hrules=True, convert_css=True, caption=caption),
    }


def cells(rows: Sequence[Row], columns: Mapping[str, str], shade: str = "") -> list[list[str]]:
    """Return the text of each cell; averages and differences are marked as Noise or Clear."""
    return [[_toned(cell(form, row), row, _difference(form, shade)) for form in columns.values()] for row in rows]


def _difference(form: str, shade: str) -> str:
    """Return the key of the difference by which a column is shaded."""
    first, *others = fields(form) or [""]
    if f"{{{first}:+" in form and others:
        return first
    return shade.format(first.split("_")[0]) if first.endswith(("_avg", "_rel")) else ""


def _toned(text: str, row: Row, key: str) -> str:
    text = text.replace(" [–, –]", "")  # a value without an interval
    low: Any = row.get(f"{key}_low")
    high: Any = row.get(f"{key}_high")
    if absent(low) or absent(high):
        return text
    if low <= 0 <= high:
        return Noise(text)
    return text if (row.get("scenes") or FEW) < FEW else Clear(text)


@dataclass(frozen=True)
class Table:
    """Cells as text in groups, as (title, rows), within which readers sort; `above`: spans, as (title, columns)."""

    caption: str
    headings: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[str]]]]
    above: Sequence[tuple[str, int]] = ()
    file: str = ""  # tables/<file>.csv and .tex lie beside the page


def block(
    sheet: Sheet,
    file: str = "",
    title: Callable[[Row], str] | None = None,
    hide: Sequence[str] = ("Pruned (%)",),
    stacked: bool = False,
) -> Table:
    """Return the table for the page: rows under their `title`, without the columns `hide` that it makes superfluous.

    By default rows with a prune ratio stand under it. `stacked` puts intervals and counts on a second line, for wide
    tables.
    """
    title = title or (ratio if "Pruned (%)" in sheet.columns else lambda row: "")
    columns = {heading: form for heading, form in sheet.columns.items() if heading not in hide}
    if stacked:
        columns = {head: form.replace(" [", "\n[").replace(" (", "\n(") for head, form in columns.items()}
    pairs = [heading.split(" | ") if " | " in heading else ("", heading) for heading in columns]
    above: list[tuple[str, int]] = []
    for span, _ in pairs:
        last = above.pop() if above and above[-1][0] == span else (span, 0)
        above.append((span, last[1] + 1))
    parts: dict[str, list[Row]] = {}
    for row in sheet.rows:
        parts.setdefault(title(row), []).append(row)
    groups = [(name, cells(rows, columns, sheet.shade)) for name, rows in parts.items()]
    return Table(sheet.caption, [name for _, name in pairs], groups, above if len(above) > 1 else (), file=file)


def ratio(row: Row) -> str:
    """Return the prune ratio of a row in words."""
    return f"{row['pruned_percent']} % pruned" if row["pruned_percent"] else "Unpruned"


@dataclass(frozen=True)
class Picture:
    """An image with words for those who do not see it."""

    data: bytes
    kind: str  # jpeg, png, webp or svg+xml
    alt: str
    caption: str = ""

    @property
    def src(self) -> str:
        """The picture as a `data:` address."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, `across` of them where there is room."""

    pictures: Sequence[Picture]
    across: int = 1
    title: str = ""


@dataclass(frozen=True)
class Slider:
    """Galleries by label, of which a reader sees one at a time; `start` is the place that is seen first."""

    title: str
    of: str  # what changes from place to place
    steps: Sequence[tuple[str, Gallery]]
    start: int = 0


@dataclass(frozen=True)
class Cases:
    """Small pictures, what they are, and an answer of the driver word for word; under a title that a reader opens."""

    title: str
    cases: Sequence[tuple[Sequence[Picture], str, str]]


Block = Gallery | Slider | Cases | Table | dict[str, str] | str  # a dict: labels and their values; a str: a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The target of links inside the page."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())

    def pictures(self) -> dict[str, bytes]:
        """Return every picture of a gallery or slider by the name of a file: section, number in it, kind."""
        galleries = [block for block in self.blocks if isinstance(block, Gallery)]
        galleries += [gallery for block in self.blocks if isinstance(block, Slider) for _, gallery in block.steps]
        found = [picture for gallery in galleries for picture in gallery.pictures]
        return {f"{self.anchor}-{i:02d}.{p.kind.removesuffix('+xml')}": p.data for i, p in enumerate(found)}


def render(title: str, sections: Sequence[Section], most_mb: float = 15.0) -> str:
    """Return the page as HTML; equal sections give equal text.

    Raises ParamsError when it is larger than what opens at once on any machine.
    """
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = templates(HERE)
    environment.filters["kind"] = lambda block: type(block).__name__
    policy = content_policy("data:", style, script)
    template = environment.get_template("page.html.jinja")
    page = template.render(title=title, sections=sections, style=style, script=script, policy=policy)
    if (size_mb := len(page.encode()) / 1e6) > most_mb:
        raise ParamsError(
            expected=f"a page of at most {most_mb:g} MB",
            got=f"{size_mb:.1f} MB",
            fix="lower make_report.worst_samples or overlay_frames in params.yaml, then `dvc repro make_report`",
        )
    return page


def templates(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder; every value is escaped."""
    loader = jinja2.FileSystemLoader(folder)
    undefined = jinja2.StrictUndefined
    return jinja2.Environment(loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True)


def content_policy(images: str, style: str, script: str) -> str:
    """Return a content security policy: images of one source, this inline style and script by their hashes."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src {images}; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
