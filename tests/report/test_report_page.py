"""The page's own promises: escaping, the policy's hash, links."""

import base64
import hashlib
import re

import pytest

from stages.core.errors import ParamsError
from stages.planning.tables import Clear, Noise
from stages.report.page import (
    Case,
    Cases,
    Facts,
    Gallery,
    Group,
    Picture,
    Section,
    Slider,
    Step,
    Table,
    Words,
    figures,
    render,
    within,
)

HOSTILE = "\"><script>alert(1)</script>'&"


def test_hostile_text_is_escaped_wherever_text_may_come_from_a_model():
    table = Table(HOSTILE, [HOSTILE], [Group([[HOSTILE, HOSTILE]], HOSTILE)], [(HOSTILE, 1)])
    picture = Picture(b"x", "png", HOSTILE, HOSTILE)
    blocks = [table, Gallery([picture], title=HOSTILE), Words(HOSTILE), Facts([(HOSTILE, HOSTILE)])]
    page = render(HOSTILE, [Section(HOSTILE, blocks)])
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;") >= 12


@pytest.mark.parametrize("tag", ["style", "script"])
def test_policy_allows_this_style_and_this_script_and_no_other(tag):
    page = render("title", [])
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{tag}-src 'sha256-{digest}';".replace("'", "&#39;") in page
    assert "</" not in text


def test_a_page_that_is_too_large_says_what_to_lower():
    assert within("é" * 10) == "é" * 10
    with pytest.raises(ParamsError, match=r"2.0 MB.*worst_samples"):
        within("é" * 1_000_000, 1.9)


def test_pictures_of_a_slider_are_files_like_those_of_a_gallery():
    steps = [Step(f"{p} %", Gallery([Picture(bytes([p]), "webp", "kept")])) for p in (25, 50)]
    assert figures([Section("Kept", [Slider("t", "ratio", steps)])]) == {"kept-00.webp": b"\x19", "kept-01.webp": b"2"}


def test_picture_is_inside_the_page():
    assert Picture(b"abc", "svg+xml", "words").src == "data:image/svg+xml;base64,YWJj"


def test_anchor_is_made_of_letters_digits_and_dashes():
    assert Section("Table 4: FLOPs & ms", []).anchor == "table-4--flops---ms"


def test_cases_are_folded_with_their_pictures_and_an_escaped_answer():
    case = Case([Picture(b"x", "webp", "front"), Picture(b"y", "svg+xml", HOSTILE)], HOSTILE, HOSTILE)
    page = render("title", [Section("Worst", [Cases(HOSTILE, [case])])])
    assert "<details>" in page
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;") == 4
    assert 'alt="front" loading' in page


def test_noise_and_what_is_clear_are_marked_and_escaped():
    page = render("title", [Section("s", [Table("", ["a", "b", "c"], [Group([["x", Noise("<i>"), Clear("2")]])])])])
    assert '<td class="noise">&lt;i&gt;</td><td class="clear">2</td>' in page
