"""The first lines of the report say what holds."""

from pathlib import Path

import pytest

from stages.core.params import read_params
from stages.report.captions import images

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")


@pytest.mark.parametrize(
    ("fit", "said"), [("stretch", "84 x 56 px"), ("pad", "84 x 56 px"), ("budget", "at most 262,144 px")]
)
def test_the_size_of_an_image_is_named_where_it_is_fixed(fit: str, said: str) -> None:
    vla = PARAMS.vla.model_copy(update={"fit": fit, "size_px": (84, 56), "max_pixels": 512 * 512})
    assert said in images(vla)
