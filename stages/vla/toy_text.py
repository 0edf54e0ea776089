"""Words of the toy driver: a closed vocabulary in Hugging Face form, the prompt and the answer as token ids.

Numbers are an integer word and a decimal word, so that every answer has the same length and batches need no padding.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbone.qwen import Tokenizer
from stages.core.io import write_json
from stages.vla.answers import CLOSE, OPEN, format_answer

PAD, END, IMAGE, VIDEO, VISION_START, VISION_END = (
    "<|pad|>",
    "<|im_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
)
SPECIAL = (PAD, END, IMAGE, VIDEO, VISION_START, VISION_END)
# Text before the image, as any chat template has. Image tokens read off their place in the picture by how they turn
# against these words (M-RoPE is relative): with one word alone the language model learned it several times slower.
BEFORE = ("drive ", "by ", "the ", "camera ", "ahead: ")
WHOLE_M = range(-40, 71)  # integer parts that an answer or a speed may have
DECIMALS = 1
VOCABULARY = (
    *SPECIAL,
    OPEN,
    CLOSE,
    "[",
    "]",
    ", ",
    "], [",
    "-0",
    *(str(i) for i in WHOLE_M),
    *(f".{i}" for i in range(10)),
    "speed ",
    " m/s, plan:",
    *BEFORE,
)
ANSWER_TOKENS = 2 + 6 * 5 + 7 + 1  # tags, four number words and a comma a pair, brackets and their joints, end


def write_tokenizer(folder: Path) -> list[Path]:
    """tokenizer.json and tokenizer_config.json, as `from_pretrained` reads them; returns the files written."""
    longest_first = sorted(VOCABULARY[len(SPECIAL) :], key=len, reverse=True)
    pattern = "|".join(_escape(word) for word in longest_first)
    added = [
        {"id": i, "content": word, "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for i, word in enumerate(SPECIAL)
    ]
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    model = {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(VOCABULARY)}, "unk_token": PAD}
    body: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
    }
    body |= {"pre_tokenizer": split, "post_processor": None, "decoder": {"type": "Fuse"}, "model": model}
    write_json(folder / "tokenizer.json", body)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END, "unk_token": PAD}
    write_json(folder / "tokenizer_config.json", config | {"clean_up_tokenization_spaces": False})
    return [folder / "tokenizer.json", folder / "tokenizer_config.json"]


def _escape(word: str) -> str:
    return "".join(f"\\{c}" if c in "[]().<>/|-+*?" else c for c in word)


def before_text() -> str:
    """What precedes the image, up to its opening tag."""
    return "".join(BEFORE) + VISION_START


def prompt_text(speed_mps: float) -> str:
    """What follows the image: the current speed, and nothing else that could give the plan away."""
    bounded = min(max(speed_mps, 0.0), WHOLE_M.stop - 1.0)
    return f"speed {bounded:.{DECIMALS}f} m/s, plan:"


def answer_text(waypoints_m: NDArray[np.float64]) -> str:
    """The six waypoints inside the vocabulary's range; numbers beyond it are clipped."""
    return format_answer(np.clip(waypoints_m, WHOLE_M.start + 1.0, WHOLE_M.stop - 1.0), DECIMALS)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of `text`."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def numeric_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the words that are parts of numbers."""
    words = ["-0", *(str(i) for i in WHOLE_M), *(f".{i}" for i in range(10))]
    return [word_id(tokenizer, word) for word in words]


def word_id(tokenizer: Tokenizer, word: str) -> int:
    """Id of one word of the vocabulary."""
    return int(tokenizer.convert_tokens_to_ids(word))


def read_vocabulary(folder: Path) -> dict[str, int]:
    """word -> id of a written tokenizer."""
    return json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
