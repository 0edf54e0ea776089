"""The small driver of the embedded default: the true Qwen2.5-VL class at small width.

CAM_FRONT and the current speed in, six waypoints as text out. Its vocabulary is closed, in Hugging Face form; numbers
are an integer word and a decimal word, so that every answer has the same length and batches need no padding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.backbone.qwen import Tokenizer, load_model, load_tokenizer
from stages.core.io import write_json
from stages.scenes.base import FUTURE_STEPS, Frame
from stages.scenes.images import read_image
from stages.vla.base import DriverOptions, QwenDriver, front
from stages.vla.plans import CLOSE, OPEN, format_answer, parse_answer
from stages.vla.prefill import Prompt

PAD, END, IMAGE, VIDEO = "<|pad|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
SPECIAL = (PAD, END, IMAGE, VIDEO, VISION_START, VISION_END)
# Text before the image, as any chat template has. Image tokens read off their place in the picture by how they turn
# against these words (M-RoPE is relative): with one word alone the language model learned it several times slower.
BEFORE = ("drive ", "by ", "the ", "camera ", "ahead: ")
WHOLE_M = range(-40, 71)  # integer parts that an answer or a speed may have
DECIMALS = 1
NUMBERS = ("-0", *(str(i) for i in WHOLE_M), *(f".{i}" for i in range(10)))
VOCABULARY = (*SPECIAL, OPEN, CLOSE, "[", "]", ", ", "], [", *NUMBERS, "speed ", " m/s, plan:", *BEFORE)
ANSWER_TOKENS = 2 + 6 * 5 + 7 + 1  # tags, four number words and a comma a pair, brackets and their joints, end


class Driver(QwenDriver):
    """Plans from one front image and the current speed."""

    answer_tokens = ANSWER_TOKENS

    def __init__(self, options: DriverOptions) -> None:
        super().__init__(options, load_model(options.checkpoint), load_tokenizer(options.checkpoint))
        self.ends = (word_id(self.tokenizer, END),)

    def ask(self, frames: Sequence[Frame]) -> Prompt:
        return self.prompt([frame.speed_mps for frame in frames])

    def images(self, frames: Sequence[Frame]) -> Tensor:
        arrays = [read_image(front(frame).path, self.options.size_px, self.options.fit) for frame in frames]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    def prompt(self, speeds_mps: Sequence[float]) -> Prompt:
        """Token ids before and after the image, one row per speed."""
        before = encode(self.tokenizer, before_text())
        after = [encode(self.tokenizer, VISION_END + prompt_text(speed)) for speed in speeds_mps]
        return Prompt(torch.tensor([before] * len(after)), torch.tensor(after))

    def read_answer(self, text: str) -> tuple[np.ndarray, bool]:
        waypoints_m = parse_answer(text)
        return (np.zeros((FUTURE_STEPS, 2)), False) if waypoints_m is None else (waypoints_m, True)


def write_tokenizer(folder: Path) -> list[Path]:
    """Write tokenizer.json and tokenizer_config.json, as `from_pretrained` reads them; return the files."""
    longest_first = sorted(VOCABULARY[len(SPECIAL) :], key=len, reverse=True)
    escaped = str.maketrans({c: f"\\{c}" for c in "[]().<>/|-+*?"})
    pattern = "|".join(word.translate(escaped) for word in longest_first)
    added = [
        {"id": i, "content": word, "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for i, word in enumerate(SPECIAL)
    ]
    body: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(VOCABULARY)}, "unk_token": PAD},
    }
    write_json(folder / "tokenizer.json", body)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END, "unk_token": PAD}
    write_json(folder / "tokenizer_config.json", config | {"clean_up_tokenization_spaces": False})
    return [folder / "tokenizer.json", folder / "tokenizer_config.json"]


def before_text() -> str:
    """Return the text before the image, up to its opening tag."""
    return "".join(BEFORE) + VISION_START


def prompt_text(speed_mps: float) -> str:
    """Return the text after the image: the current speed, and nothing else that could give the plan away."""
    bounded = min(max(speed_mps, 0.0), WHOLE_M.stop - 1.0)
    return f"speed {bounded:.{DECIMALS}f} m/s, plan:"


def answer_text(waypoints_m: NDArray[np.float64]) -> str:
    """Return the six waypoints as text, inside the vocabulary's range; numbers beyond it are clipped."""
    return format_answer(np.clip(waypoints_m, WHOLE_M.start + 1.0, WHOLE_M.stop - 1.0), DECIMALS)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of `text`."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def numeric_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the words that are parts of numbers."""
    return [word_id(tokenizer, word) for word in NUMBERS]


def word_id(tokenizer: Tokenizer, word: str) -> int:
    """Return the id of one word of the vocabulary."""
    return int(tokenizer.convert_tokens_to_ids(word))
