"""The order of a written page of results: its sections, and the tables in each with their captions. Pure."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_LINK = re.compile(r"tables/(\w+)\.csv")
_ALSO = re.compile(r"\s*\(also as\s.*", re.DOTALL)
_TONES = re.compile(r"\s*\b(?:Grey|Bold): (?:[^.]|\.(?=\d))*\.")  # they mean something else where states are compared


@dataclass
class Part:
    """A section of the page."""

    title: str
    tables: dict[str, str] = field(default_factory=dict)  # name -> caption
    anchor: str = ""


def outline(page: str) -> list[Part]:
    """The sections of the page in their order; none of an empty one."""
    reader = _Reader()
    reader.feed(page)
    return reader.parts


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[Part] = []
        self._within, self._text, self._anchor, self._tables = "", "", "", [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "section":
            self._anchor = given.get("id", "")
        elif tag == "h2" or (tag == "p" and given.get("class") == "caption"):
            self._within, self._text, self._tables = tag, "", []
        elif tag == "a" and self._within == "p" and (found := _LINK.fullmatch(given.get("href", ""))):
            self._tables.append(found.group(1))

    def handle_data(self, data: str) -> None:
        if self._within:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag != self._within:
            return
        if tag == "h2":
            self.parts.append(Part(self._text, anchor=self._anchor))
        elif self.parts:
            self.parts[-1].tables |= {name: _TONES.sub("", _ALSO.sub("", self._text)) for name in self._tables}
        self._within = ""
