"""Impromptu-VLA: a released Qwen2.5-VL, 3B or 7B, taught to drive on nuScenes from one front image and a question.

Questions are data (`questions`), answers are read as its own evaluator reads them, decoding is greedy without a
repetition penalty, which is what its released settings come to (research/planning.md 2.5). The prompt is laid out by
the checkpoint's own chat template. From top to bottom: the driver, its images, its answers, its snapshot on disk.
"""

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stages.backbone.qwen import TOKEN_PX, load_model, load_tokenizer
from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.core.shards import own_device
from stages.scenes.base import FUTURE_STEPS, Frame
from stages.scenes.images import read_image
from stages.vla.base import DriverOptions, QwenDriver, front
from stages.vla.plans import CLOSE, OPEN
from stages.vla.prefill import Prompt
from stages.vla.questions import IMAGE

log = logging.getLogger(__name__)

IMAGE_PAD = "<|image_pad|>"  # where the chat template puts an image
END = "<|im_end|>"

Ids = tuple[int, ...]


class Driver(QwenDriver):
    """Plans from one front image and the question about it."""

    def __init__(self, options: DriverOptions) -> None:
        """Raises DataError for an incomplete or another snapshot, ParamsError when no hash is named."""
        verify(options.checkpoint, options.checkpoint_sha256)
        model = load_model(options.checkpoint, made_by=download(options.checkpoint))
        super().__init__(options, model.to(own_device()), load_tokenizer(options.checkpoint))
        self.answer_tokens = options.answer_tokens
        beside = options.checkpoint / "chat_template.json"  # where the processor of transformers 4 kept it
        if self.tokenizer.chat_template is None and beside.is_file():
            self.tokenizer.chat_template = io.read_json(beside, download(options.checkpoint)).get("chat_template")
        path = options.checkpoint / "generation_config.json"
        listed = io.read_json(path, download(options.checkpoint)).get("eos_token_id", []) if path.is_file() else []
        ends = [int(self.tokenizer.convert_tokens_to_ids(END)), *([listed] if isinstance(listed, int) else listed)]
        self.ends = tuple(dict.fromkeys(ends))

    def batches(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """Frames whose prompts are equally long and whose images come to one size, so that no mask is needed."""
        options = self.options
        alike: dict[tuple[int, int, tuple[int, int]], list[Frame]] = {}
        for frame in frames:
            before, after = self._ids(frame)
            size_px = fitted_size(front(frame).size_px, options.size_px, options.fit, options.max_pixels)
            alike.setdefault((len(before), len(after), size_px), []).append(frame)
        for key in sorted(alike):
            yield from super().batches(alike[key])

    def ask(self, frames: Sequence[Frame]) -> Prompt:
        before, after = zip(*(self._ids(frame) for frame in frames), strict=True)
        device = self.tower.device
        return Prompt(torch.tensor(before, device=device), torch.tensor(after, device=device))

    def images(self, frames: Sequence[Frame]) -> Tensor:
        options = self.options
        arrays = [read_fitted(front(frame).path, options.size_px, options.fit, options.max_pixels) for frame in frames]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    def read_answer(self, text: str) -> tuple[np.ndarray, bool]:
        """Waypoints as the official evaluator reads them, zeros also where they are no finite numbers."""
        answer = parse_answer(text, self.options.answer_format)
        return (answer.waypoints_m, True) if answer.parsed else (np.zeros((FUTURE_STEPS, 2)), False)

    def remark(self, text: str) -> str:
        return parse_answer(text, self.options.answer_format).remark

    def _ids(self, frame: Frame) -> tuple[Ids, Ids]:
        """Token ids before and after the image, of the chat around the question.

        Raises DataError when the template shows no single image.
        """
        assert self.options.question_of is not None
        first, _, second = self.options.question_of(frame.token).partition(IMAGE)
        parts = [{"type": "text", "text": first}, {"type": "image"}, {"type": "text", "text": second}]
        chat = [{"role": "user", "content": [part for part in parts if part["type"] == "image" or part["text"]]}]
        try:
            text = str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        except ValueError as error:  # the tokenizer has no template
            text = str(error)
        if text.count(IMAGE_PAD) != 1:
            raise DataError(
                expected=f"a chat template in {self.options.checkpoint} that puts {IMAGE_PAD} once for an image",
                got=f"{text!r:.120}",
                fix="put the snapshot's chat_template.jinja or its tokenizer_config.json there",
            )
        around = text.split(IMAGE_PAD)
        before, after = (tuple(self.tokenizer(part, add_special_tokens=False)["input_ids"]) for part in around)
        return before, after


# Images: one fixed size, or the released budget of pixels, as LLaMA-Factory and Qwen2.5-VL's processor come to it
# (research/planning.md 2.5): an image of more than 512 x 512 pixels is scaled down to that area, then both sides go to
# the nearest multiple of 28 px. 1600 x 900 becomes 682 x 384, then 672 x 392: 24 x 14 = 336 tokens.


def fitted_size(image_px: tuple[int, int], size_px: tuple[int, int], fit: str, max_pixels: int) -> tuple[int, int]:
    """Return W, H, multiples of 28 px: `size_px`, or for `budget` what `max_pixels` leave, halves to the even one."""
    if fit != "budget":
        return size_px
    W, H = (max(TOKEN_PX, round(side / TOKEN_PX) * TOKEN_PX) for side in capped_size(image_px, max_pixels))
    return W, H


def capped_size(size_px: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """Return W, H scaled down to at most `max_pixels`, fractions cut off."""
    W, H = size_px
    factor = min(1.0, math.sqrt(max_pixels / (W * H)))
    return max(1, int(W * factor)), max(1, int(H * factor))


def read_fitted(path: Path, size_px: tuple[int, int], fit: str, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image, RGB. Raises DataError unless it is there and decodes.

    `stretch` and `pad` are what ReconPruner is trained on (`scenes.images`); `budget` resamples twice, bicubic, as the
    released pipeline does.
    """
    if fit != "budget":
        return read_image(path, size_px, fit)
    from PIL import Image

    try:
        image = Image.open(path).convert("RGB")
    except OSError as error:
        raise DataError(expected=f"an image in {path}", got=str(error), fix="complete the data set") from error
    for size in (capped_size(image.size, max_pixels), fitted_size(image.size, size_px, fit, max_pixels)):
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


# Answers: rules of pipeline_planning.py and of the NeuroNCAP server in Impromptu-VLA (7dc90bda), as observed on their
# outputs (research/planning.md 2.3). A taught answer is `<PLANNING>... [x, y]: [x1, y1], ... [x6, y6]</PLANNING>`, six
# points 0.5 s apart, metres.

LEGENDS = ("displacement, theta", "dx, dy", "distance, curvature", "distance, polar angle", "x, y")
_BRACKETED = re.compile(r"\[([^\]]+)\]")
_PLAIN_PAIR = re.compile(r"\[([\d.-]+),\s*([\d.-]+)\]")

Points = Float[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Answer:
    """An answer as it was read."""

    waypoints_m: Points  # x forward, y left; six, but of the NeuroNCAP server as many as it found; zeros: not parsed
    parsed: bool  # six points of finite numbers came out; the official evaluator calls nothing unparsed
    remark: str = ""  # how it departs from what was taught, though it may parse


def parse_answer(text: str, mode: str = "x-y") -> Answer:
    """Return the waypoints of an answer as the official evaluator reads them, in one of the released formats `mode`.

    Between the tags (without them from the tenth character to the last but one), every bracket but a legend: the first
    two numbers of the first six. Fewer points: the last one again. Whatever the evaluator fails on: zeros (parked).
    NaN and infinity go through as they are there; here such an answer does not count as parsed.
    """
    if mode == "neuroncap_server":
        return _parse_as_server(text)
    points = _points(text[text.find(OPEN) + len(OPEN) : text.find(CLOSE)])
    if points is None:
        return Answer(np.zeros((FUTURE_STEPS, 2)), False, "no points")
    path_m = MODES[mode](points[:FUTURE_STEPS, :2])
    path_m = np.concatenate([path_m, np.repeat(path_m[-1:], max(0, FUTURE_STEPS - len(path_m)), axis=0)])
    finite = bool(np.isfinite(path_m).all())
    return Answer(path_m, finite, _remark(text, len(points), finite))


def _points(text: str) -> Float[np.ndarray, "n m"] | None:
    """The bracketed rows of numbers; None unless there is one, and all are equally long and at least pairs."""
    brackets = _BRACKETED.findall(text)
    for legend in LEGENDS:
        if legend in brackets:
            brackets.remove(legend)
    try:
        rows = [[float(number) for number in row.split(",")] for row in brackets]
    except ValueError:
        return None
    lengths = {len(row) for row in rows}
    return np.array(rows, np.float64) if len(lengths) == 1 and min(lengths) >= 2 else None


def _remark(text: str, points: int, finite: bool) -> str:
    if not finite:
        return "not finite"
    if OPEN not in text or CLOSE not in text:
        return "no tags"
    if points != FUTURE_STEPS:
        return "fewer points" if points < FUTURE_STEPS else "more points"
    return ""


def _parse_as_server(text: str) -> Answer:
    """The first six pairs of digits, points and signs, no exponents; zeros where there is no pair of numbers."""
    pairs = _PLAIN_PAIR.findall(text)
    try:
        path_m = np.array([[float(number) for number in pair] for pair in pairs[:FUTURE_STEPS]]).reshape(-1, 2)
    except ValueError:
        path_m = np.zeros((0, 2))
    if not len(path_m):
        return Answer(np.zeros((FUTURE_STEPS, 2)), False, "no points")
    return Answer(path_m, len(path_m) == FUTURE_STEPS, _remark(text, len(pairs), True))


def _polar(distance_m: Float[np.ndarray, " n"], heading_deg: Float[np.ndarray, " n"]) -> Points:
    """Where a distance in a direction leads, 0 straight on, positive to the left."""
    heading_rad = np.radians(heading_deg)
    return np.stack([distance_m * np.cos(heading_rad), distance_m * np.sin(heading_rad)], axis=1)


def _along_curves(points: Points) -> Points:
    """Of the format dist-curvature: 100 / m, integrated with half of each distance as the published code has it."""
    half_m = 0.5 * points[:, 0]
    return _polar(half_m, np.degrees((points[:, 1] / 100 * half_m).cumsum())).cumsum(axis=0)


MODES: dict[str, Callable[[Points], Points]] = {
    "x-y": lambda points: points,
    "dx-dy": lambda points: np.stack([points[:, 1], -points[:, 0]], axis=1).cumsum(axis=0),  # x right, y forward
    "polar": lambda points: _polar(points[:, 0], points[:, 1]),
    "dist-theta": lambda points: _polar(points[:, 0], points[:, 1]).cumsum(axis=0),
    "dist-dtheta": lambda points: _polar(points[:, 0], points[:, 1].cumsum()).cumsum(axis=0),
    "dist-curvature": _along_curves,
}


# The snapshot on disk: whole, and the one whose hash params name, before anything is loaded.

HUB = "aaaaaap/ImpromptuVLAModel"
FOLDERS = ("3B_Base_finetune", "3B_AD", "3B_AD_finetune", "7B_Base_finetune", "7B_AD", "7B_AD_finetune")
SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"  # transformers lays what it names over the weights, where peft is installed
PROOFS = Path("runs/checkpoints")


def download(folder: Path) -> str:
    """Return the command that fetches a snapshot to `folder`, or beside it where its name is none of the released."""
    released = folder.name if folder.name in FOLDERS else "3B_AD_finetune"
    return f"hf download {HUB} --include '{released}/*' --local-dir {folder.parent}"


def require(folder: Path) -> list[Path]:
    """Return the weight files of a whole snapshot.

    Raises DataError naming all that is missing and how to fetch it, or what would be loaded unverified.
    """
    index, names = folder / INDEX, {"model.safetensors"}
    if index.is_file():
        names = set(io.read_json(index, download(folder))["weight_map"].values())
    found = sorted(folder.glob("*.safetensors"))  # all: transformers loads adapters too, and before an index one file
    absent = [name for name in SMALL if not (folder / name).is_file()] + sorted(names - {path.name for path in found})
    if absent:
        raise DataError(
            expected=f"a whole Qwen2.5-VL snapshot in {folder}",
            got=f"no {', '.join(absent)}" if folder.is_dir() else "no such folder",
            fix=f"{download(folder)} (others there: {', '.join(FOLDERS)}), and name that folder as vla.checkpoint",
        )
    others = [ADAPTER] if (folder / ADAPTER).is_file() else []
    if named := dict(io.read_json(folder / "config.json", download(folder))).get("transformers_weights"):
        others.append(f"transformers_weights: {named} in config.json")
    if others:
        raise DataError(
            expected=f"no weights of {folder} beside its *.safetensors, which are verified",
            got=", ".join(others),
            fix="move the adapter to another folder, or take that line out of config.json",
        )
    return found


def verify(folder: Path, sha256: str | None) -> None:
    """Check the weights of a whole snapshot: `sha256sum *.safetensors | sha256sum` in its folder gives `sha256`.

    Gigabytes are read once: later calls, of other processes too, know the files by name, size, time and inode. Raises
    DataError for an incomplete snapshot or another hash, ParamsError when none is named.
    """
    digest = weights_hash(require(folder))
    if sha256 is None:
        raise ParamsError(
            expected="vla.checkpoint_sha256 in params.yaml, which says which weights drive",
            got=f"null; the weights in {folder} have {digest}",
            fix=f"vla.checkpoint_sha256: {digest} if those are the ones you mean",
        )
    if digest != sha256:
        raise DataError(expected=f"weights in {folder} with sha256 {sha256}", got=digest, fix=download(folder))


def weights_hash(paths: list[Path]) -> str:
    """Return one hash of several files: of the lines that sha256sum prints of them, ordered by name."""
    paths = sorted(paths)
    states = [(str(path.resolve()), s.st_size, s.st_mtime_ns, s.st_ino) for path in paths for s in [path.stat()]]
    proof = PROOFS / f"{io.fingerprint(*states)}.json"
    if proof.is_file():
        return str(io.read_json(proof, f"rm {proof}")["sha256"])
    log.info("reading %d weight files in %s once, for their hash", len(paths), paths[0].parent)
    lines = "".join(f"{io.sha256(path)}  {path.name}\n" for path in paths)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    io.write_json(proof, {"sha256": digest, "files": [str(path) for path in paths]})
    return digest
