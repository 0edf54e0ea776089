"""The page: sections of text, tables and pictures as one HTML file that asks nobody for anything.

Pictures are inside it. Everything that came from a model or a data set is escaped, and the content policy allows one
script (page.js, by its hash) and no request, so an answer such as `<script>` stays text. Without scripts all is there:
tables in their order, the pictures of a slider one below the other.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from stages.core.errors import ParamsError

HERE = Path(__file__).parent
MOST_MB = 15.0


@dataclass(frozen=True)
class Picture:
    """An image with words for those who do not see it."""

    data: bytes
    kind: str  # jpeg, png, webp or svg+xml
    alt: str
    caption: str = ""

    @property
    def drawn(self) -> bool:
        """Whether it is a chart or drawing on white, which turns dark with the page."""
        return self.kind == "svg+xml"

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
    name: str = "gallery"


@dataclass(frozen=True)
class Step:
    """What a slider shows at one of its places."""

    label: str
    gallery: Gallery


@dataclass(frozen=True)
class Slider:
    """Galleries of which a reader sees one at a time; `start` is the place that is seen first."""

    title: str
    of: str  # what changes from place to place
    steps: Sequence[Step]
    start: int = 0
    name: str = "slider"


@dataclass(frozen=True)
class Case:
    """One answer of the driver: small pictures side by side, what it is, and the answer word for word."""

    pictures: Sequence[Picture]
    caption: str
    answer: str


@dataclass(frozen=True)
class Cases:
    """Cases under a title that a reader opens; their pictures are on the page alone."""

    title: str
    cases: Sequence[Case]
    name: str = "cases"


@dataclass(frozen=True)
class Group:
    """Rows of a table that belong together, under a title; cells that are Noise or Clear (tables.py) look so."""

    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Cells as text; `above` names spans of columns, as (title, columns). Readers sort rows within their group."""

    caption: str
    headings: Sequence[str]
    groups: Sequence[Group]
    above: Sequence[tuple[str, int]] = ()
    prose: bool = False  # cells are sentences, not numbers
    file: str = ""  # tables/<file>.csv and .tex lie beside the page
    name: str = "table"


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    name: str = "words"


@dataclass(frozen=True)
class Facts:
    """Label and value, side by side."""

    pairs: Sequence[tuple[str, str]]
    name: str = "facts"


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Gallery | Slider | Cases | Table | Words | Facts]

    @property
    def anchor(self) -> str:
        """What links inside the page point to."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def figures(sections: Sequence[Section]) -> dict[str, bytes]:
    """Every picture of a gallery as a file of its own, by name: section, number in it, kind."""
    found = {}
    for section in sections:
        pictures = [picture for gallery in _galleries(section) for picture in gallery.pictures]
        for i, picture in enumerate(pictures):
            found[f"{section.anchor}-{i:02d}.{picture.kind.removesuffix('+xml')}"] = picture.data
    return found


def _galleries(section: Section) -> Iterator[Gallery]:
    for block in section.blocks:
        if isinstance(block, Gallery):
            yield block
        elif isinstance(block, Slider):
            yield from (step.gallery for step in block.steps)


def render(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML; equal sections give equal text."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return _template().render(title=title, sections=sections, style=style, script=script, policy=policy)


def within(page: str, most_mb: float = MOST_MB) -> str:
    """The page. Raises ParamsError when it is larger than what opens at once on any machine."""
    size_mb = len(page.encode()) / 1e6
    if size_mb > most_mb:
        raise ParamsError(
            expected=f"a page of at most {most_mb:g} MB",
            got=f"{size_mb:.1f} MB",
            fix="lower make_report.worst_samples or overlay_frames in params.yaml, then `dvc repro make_report`",
        )
    return page


def _hash(text: str) -> str:
    """How a content policy names an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")
