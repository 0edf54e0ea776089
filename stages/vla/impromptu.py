"""Impromptu-VLA: a released Qwen2.5-VL, 3B or 7B, taught to drive on nuScenes from one front image and a question.

Questions are data (`questions`), answers are read as its own evaluator reads them (`impromptu_text`), decoding is
greedy without a repetition penalty, which is what its released settings come to (research/planning.md 2.5). The prompt
is laid out by the checkpoint's own chat template.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from stages.backbone.qwen import load_model, load_tokenizer
from stages.core.errors import DataError, ParamsError
from stages.core.io import read_json
from stages.core.shards import own_device
from stages.scenes.base import FUTURE_STEPS, Frame
from stages.vla import snapshot
from stages.vla.base import DriverOptions
from stages.vla.driving import QwenDriver, front
from stages.vla.fitting import fitted_size, read_fitted
from stages.vla.impromptu_text import parse_answer
from stages.vla.prefill import Prompt
from stages.vla.question_text import IMAGE

IMAGE_PAD = "<|image_pad|>"  # where the chat template puts an image
END = "<|im_end|>"

Ids = tuple[int, ...]


class Driver(QwenDriver):
    """Plans from one front image and what was asked about it."""

    def __init__(self, options: DriverOptions) -> None:
        """Raises DataError for an incomplete or another snapshot, ParamsError when no hash is named."""
        snapshot.verify(options.checkpoint, options.checkpoint_sha256)
        model = load_model(options.checkpoint, made_by=snapshot.download(options.checkpoint))
        self.answer_tokens = options.answer_tokens  # first: the host makes room for them
        super().__init__(options, model.to(own_device()), load_tokenizer(options.checkpoint))
        beside = options.checkpoint / "chat_template.json"  # where the processor of transformers 4 kept it
        if self.tokenizer.chat_template is None and beside.is_file():
            self.tokenizer.chat_template = read_json(beside, snapshot.download(options.checkpoint)).get("chat_template")
        self.ends = self._ends()

    def batches(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """Frames whose prompts are equally long and whose images come to one size, so that no mask is needed."""
        alike: dict[tuple[int, int, tuple[int, int]], list[Frame]] = {}
        for frame in frames:
            before, after = self._ids(frame)
            alike.setdefault((len(before), len(after), self._size_px(frame)), []).append(frame)
        for key in sorted(alike):
            yield from super().batches(alike[key])

    def ask(self, frames: Sequence[Frame]) -> Prompt:
        """The questions about frames of equal length, laid out by the chat template."""
        before, after = zip(*(self._ids(frame) for frame in frames), strict=True)
        device = self.tower.device
        return Prompt(torch.tensor(before, device=device), torch.tensor(after, device=device))

    def images(self, frames: Sequence[Frame]) -> Tensor:
        """Front images, uint8 (B, 3, H, W)."""
        mine = self.options
        arrays = [read_fitted(front(frame).path, mine.size_px, mine.fit, mine.max_pixels) for frame in frames]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    def read_answer(self, text: str) -> tuple[np.ndarray, bool]:
        """Waypoints as the official evaluator reads them, zeros also where they are no finite numbers."""
        answer = parse_answer(text, self.options.answer_format)
        return (answer.waypoints_m, True) if answer.parsed else (np.zeros((FUTURE_STEPS, 2)), False)

    def remark(self, text: str) -> str:
        """In which way an answer is none as taught, or nothing."""
        return parse_answer(text, self.options.answer_format).remark

    def _ids(self, frame: Frame) -> tuple[Ids, Ids]:
        """Token ids before and after the image."""
        if self.options.question_of is None:
            raise ParamsError(
                expected="a question about each key frame", got="none", fix="open the driver with `question_of`"
            )
        before, after = self._laid_out(self.options.question_of(frame.token))
        encode = self.tokenizer
        return tuple(encode(before, add_special_tokens=False)["input_ids"]), tuple(
            encode(after, add_special_tokens=False)["input_ids"]
        )

    def _laid_out(self, question: str) -> tuple[str, str]:
        """The chat around a question, cut at its image. Raises DataError when the template shows no single image."""
        first, _, second = question.partition(IMAGE)
        parts = [{"type": "text", "text": first}, {"type": "image"}, {"type": "text", "text": second}]
        said = [part for part in parts if part["type"] == "image" or part["text"]]
        chat = [{"role": "user", "content": said}]
        try:
            text = str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        except ValueError as error:  # the tokenizer has no template
            raise self._no_template(str(error)) from error
        before, pad, after = text.partition(IMAGE_PAD)
        if not pad or IMAGE_PAD in after:
            raise self._no_template(f"{text.count(IMAGE_PAD)} in {text!r:.120}")
        return before, after

    def _no_template(self, came: str) -> DataError:
        return DataError(
            expected=f"a chat template in {self.options.checkpoint} that puts {IMAGE_PAD} once for an image",
            got=came,
            fix="put the snapshot's chat_template.jinja or its tokenizer_config.json there",
        )

    def _size_px(self, frame: Frame) -> tuple[int, int]:
        mine = self.options
        return fitted_size(front(frame).size_px, mine.size_px, mine.fit, mine.max_pixels)

    def _ends(self) -> tuple[int, ...]:
        """The ids that end an answer: those of generation_config.json, that of <|im_end|> first."""
        path = self.options.checkpoint / "generation_config.json"
        listed = read_json(path, snapshot.download(path.parent)).get("eos_token_id", []) if path.is_file() else []
        ends = [int(self.tokenizer.convert_tokens_to_ids(END)), *([listed] if isinstance(listed, int) else listed)]
        return tuple(dict.fromkeys(ends))
