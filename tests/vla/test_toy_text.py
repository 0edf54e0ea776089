"""The toy driver's vocabulary."""

from pathlib import Path

import numpy as np

from stages.backbone.qwen import load_tokenizer
from stages.vla.answers import parse_answer
from stages.vla.toy import ANSWER_TOKENS, PAD, answer_text, encode, numeric_ids, prompt_text, write_tokenizer


def test_every_answer_has_the_same_length_and_no_unknown_word(tmp_path: Path) -> None:
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


def test_every_prompt_has_the_same_length(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert {len(encode(tokenizer, prompt_text(v))) for v in (-1.0, 0.0, 0.04, 4.26, 33.3, 1e6)} == {4}
    assert prompt_text(4.26) == "speed 4.3 m/s, plan:"


def test_number_words_come_in_the_order_of_their_values(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    words = load_tokenizer(tmp_path).convert_ids_to_tokens(numeric_ids(load_tokenizer(tmp_path)))
    whole = [int(word) for word in words[1:-10]]
    assert words[0] == "-0"
    assert whole == sorted(whole)
    assert words[-10:] == [f".{i}" for i in range(10)]
