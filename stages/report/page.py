"""The page: sections of text, tables and pictures as one HTML file that asks nobody for anything.

Pictures are inside it. Everything that came from a model or a data set is escaped, and the content policy allows one
script (page.js, by its hash) and no request, so an answer such as `<script>` stays text. Without scripts all is there:
tables in their order, the pictures of a slider one below the other.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
        """A chart or drawing on white, which turns dark with the page."""
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


@dataclass(frozen=True)
class Slider:
    """Galleries by label, of which a reader sees one at a time; `start` is the place that is seen first."""

    title: str
    of: str  # what changes from place to place
    steps: Sequence[tuple[str, Gallery]]
    start: int = 0


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


@dataclass(frozen=True)
class Group:
    """Rows of a table that belong together, under a title; cells may be Noise or Clear of tables.py."""

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


@dataclass(frozen=True)
class Facts:
    """Label and value, side by side."""

    pairs: Sequence[tuple[str, str]]


Block = Gallery | Slider | Cases | Table | Facts | str  # a str is a paragraph


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


def render(title: str, sections: Sequence[Section], most_mb: float = MOST_MB) -> str:
    """Return the page as HTML; equal sections give equal text.

    Raises ParamsError when it is larger than what opens at once on any machine.
    """
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy, environment = content_policy("data:", style, script), templates(HERE)
    kinds: tuple[type, ...] = (Gallery, Slider, Cases, Facts, str)
    environment.tests |= {kind.__name__.lower(): _is_a(kind) for kind in kinds}
    template = environment.get_template("page.html.jinja")
    page = template.render(title=title, sections=sections, style=style, script=script, policy=policy)
    if (size_mb := len(page.encode()) / 1e6) > most_mb:
        raise ParamsError(
            expected=f"a page of at most {most_mb:g} MB",
            got=f"{size_mb:.1f} MB",
            fix="lower make_report.worst_samples or overlay_frames in params.yaml, then `dvc repro make_report`",
        )
    return page


def _is_a(kind: type) -> Callable[[object], bool]:
    return lambda block: isinstance(block, kind)


def templates(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder; every value is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def content_policy(images: str, style: str, script: str) -> str:
    """Return a content security policy: images of one source, this inline style and script by their hashes."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src {images}; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
