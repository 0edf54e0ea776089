"""The browser of samples: one page with one script, allowed by its hash; its pictures lie beside it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2

from stages.core.io import write_text
from stages.viewer.samples import Sample

HERE = Path(__file__).parent
REPORT_STYLE = HERE.parent / "report" / "page.css"
ABOUT = (
    "Key frames with a score, one at a time. Next and previous by button, by arrow keys, or by j and k. L2, collision "
    "and intersection by the protocol {protocol}."
)


def write_page(folder: Path, name: str, percent: int, protocol: str, samples: Sequence[Sample]) -> Path:
    """`index.html` in `folder`, where the pictures of `samples` lie. Opens by double click."""
    style = REPORT_STYLE.read_text(encoding="utf-8") + (HERE / "viewer.css").read_text(encoding="utf-8")
    script = (HERE / "viewer.js").read_text(encoding="utf-8")
    page = _template().render(
        title=f"{name}, {percent} % pruned" if percent else f"{name}, unpruned",
        about=ABOUT.format(protocol=protocol),
        held={"samples": [asdict(sample) for sample in samples]},
        style=style,
        script=script,
        policy=policy(style, script),
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def policy(style: str, script: str) -> str:
    """What the page may do: this style, this script, pictures of its own folder (`file:` by double click)."""
    allowed = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src 'self' file:; style-src 'sha256-{allowed[0]}'; script-src 'sha256-{allowed[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")
