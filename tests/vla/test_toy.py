"""The small driver: its vocabulary, and that a ruler finds the truth of the image it is shown."""

from pathlib import Path

import cv2
import numpy as np
from one_frame import make_frame
from PIL import Image

from stages.backbone.qwen import load_tokenizer
from stages.core.params import read_params
from stages.pruning import base
from stages.vla.base import DriverOptions
from stages.vla.plans import parse_answer
from stages.vla.toy import (
    ANSWER_TOKENS,
    PAD,
    Driver,
    answer_text,
    encode,
    numeric_ids,
    prompt_text,
    write_tokenizer,
)


def test_answers_and_prompts_have_one_length_and_no_unknown_word(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    random = np.random.default_rng(0)
    for scale in (0.3, 5, 100):
        text = answer_text(random.normal(0, scale, (6, 2)))
        ids = encode(tokenizer, text)
        assert len(ids) + 1 == ANSWER_TOKENS  # and the end token
        assert tokenizer.convert_tokens_to_ids(PAD) not in ids
        assert tokenizer.decode(ids) == text
        assert parse_answer(text) is not None
    assert {len(encode(tokenizer, prompt_text(v))) for v in (-1.0, 0.0, 0.04, 4.26, 33.3, 1e6)} == {4}
    assert prompt_text(4.26) == "speed 4.3 m/s, plan:"
    words = tokenizer.convert_ids_to_tokens(numeric_ids(tokenizer))
    assert words == ["-0", *map(str, range(-40, 71)), *(f".{i}" for i in range(10))]


def test_a_ruler_keeps_the_true_objects_of_the_image_that_is_driven(tmp_path: Path) -> None:
    vla = read_params(Path("params.yaml")).vla
    W, H = vla.size_px
    cv2.imwrite(str(tmp_path / "front.png"), np.full((H, W, 3), 90, np.uint8))
    (tmp_path / "scene-1").mkdir()
    classes = np.zeros((H, W), np.uint8)
    classes[-28:, :56] = 2  # a vehicle on the two lower left tokens
    Image.fromarray(classes).save(tmp_path / "scene-1" / "image-0.png")
    driver = Driver(DriverOptions(Path(vla.checkpoint), vla.size_px, vla.fit, 1))
    ruler = base.load("oracle", {"oracle_root": str(tmp_path), "fit": vla.fit})
    h, w = H // 28, W // 28
    ((plan,),) = driver.plan([make_frame(tmp_path / "front.png")], ruler, [90]).values()
    assert plan.tokens_kept < h * w // 9
    assert {(h - 1) * w, (h - 1) * w + 1} <= set(plan.kept.tolist())
