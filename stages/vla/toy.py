"""The small driver of the embedded default: the true Qwen2.5-VL class at small width.

CAM_FRONT and the current speed in, six waypoints as text out.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stages.backbone.qwen import load_model, load_tokenizer
from stages.scenes.base import FUTURE_STEPS, Frame
from stages.scenes.images import read_image
from stages.vla.answers import parse_answer
from stages.vla.base import DriverOptions
from stages.vla.driving import QwenDriver, front
from stages.vla.prefill import Prompt
from stages.vla.toy_text import ANSWER_TOKENS, END, VISION_END, before_text, encode, prompt_text, word_id


class Driver(QwenDriver):
    """Plans from one front image and the current speed."""

    answer_tokens = ANSWER_TOKENS

    def __init__(self, options: DriverOptions) -> None:
        super().__init__(options, load_model(options.checkpoint), load_tokenizer(options.checkpoint))
        self.ends = (word_id(self.tokenizer, END),)

    def ask(self, frames: Sequence[Frame]) -> Prompt:
        """The prompts of the frames' speeds."""
        return self.prompt([frame.speed_mps for frame in frames])

    def images(self, frames: Sequence[Frame]) -> Tensor:
        """Front images, uint8 (B, 3, H, W)."""
        arrays = [read_image(front(frame).path, self.options.size_px, self.options.fit) for frame in frames]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    def prompt(self, speeds_mps: Sequence[float]) -> Prompt:
        """Token ids before and after the image, one row per speed."""
        before = encode(self.tokenizer, before_text())
        after = [encode(self.tokenizer, VISION_END + prompt_text(speed)) for speed in speeds_mps]
        return Prompt(torch.tensor([before] * len(after)), torch.tensor(after))

    def read_answer(self, text: str) -> tuple[np.ndarray, bool]:
        """Waypoints and whether they parsed; zeros (parked) where they did not."""
        waypoints_m = parse_answer(text)
        return (np.zeros((FUTURE_STEPS, 2)), False) if waypoints_m is None else (waypoints_m, True)
