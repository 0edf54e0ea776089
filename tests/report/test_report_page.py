"""The page's own promises: escaping, the policy's hash, links."""

import base64
import hashlib
import re

from stages.planning.tables import Clear, Noise
from stages.report.page import (
    Case,
    Cases,
    Facts,
    Gallery,
    Group,
    Picture,
    Section,
    Table,
    Words,
    render,
)

HOSTILE = "\"><script>alert(1)</script>'&"


def test_hostile_text_is_escaped_wherever_text_may_come_from_a_model():
    table = Table(HOSTILE, [HOSTILE], [Group([[HOSTILE, HOSTILE]], HOSTILE)], [(HOSTILE, 1)])
    picture = Picture(b"x", "png", HOSTILE, HOSTILE)
    blocks = [table, Gallery([picture], title=HOSTILE), Words(HOSTILE), Facts([(HOSTILE, HOSTILE)])]
    page = render(HOSTILE, [Section(HOSTILE, blocks)])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 12


def test_policy_allows_this_style_and_no_other():
    page = render("title", [])
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'".replace("'", "&#39;") in page
    assert "<" not in style


def test_picture_is_inside_the_page():
    assert Picture(b"abc", "svg+xml", "words").src == "data:image/svg+xml;base64,YWJj"


def test_anchor_is_made_of_letters_digits_and_dashes():
    assert Section("Table 4: FLOPs & ms", []).anchor == "table-4--flops---ms"


def test_cases_are_folded_with_their_pictures_and_an_escaped_answer():
    case = Case([Picture(b"x", "webp", "front"), Picture(b"y", "svg+xml", HOSTILE)], HOSTILE, HOSTILE)
    page = render("title", [Section("Worst", [Cases(HOSTILE, [case])])])
    assert "<details>" in page
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4
    assert 'alt="front" loading' in page


def test_noise_and_what_is_clear_are_marked_and_escaped():
    page = render("title", [Section("s", [Table("", ["a", "b", "c"], [Group([["x", Noise("<i>"), Clear("2")]])])])])
    assert '<td class="noise">&lt;i&gt;</td><td class="clear">2</td>' in page
