"""Grounding DINO: images and a caption -> a box and token scores per query. The package's own model and configs."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from stages.core.errors import ParamsError
from stages.masks.grounding import boxes, pixels
from stages.masks.grounding.bert import local_text_encoder
from stages.masks.grounding.checkpoints import Source, fill

# Size -> the package's file that holds the shape of the model.
CONFIGS = {"swin_t": "GroundingDINO_SwinT_OGC.py", "swin_b": "GroundingDINO_SwinB_cfg.py"}
SOURCES = {
    "swin_t": Source("groundingdino_swint_ogc.pth", "release v0.1.0-alpha of github.com/IDEA-Research/GroundingDINO"),
    "swin_b": Source(
        "groundingdino_swinb_cogcoor.pth", "release v0.1.0-alpha2 of github.com/IDEA-Research/GroundingDINO"
    ),
}
# In the official files and not in the model: labels for denoising in training, and a buffer that older versions of
# transformers stored.
UNUSED = ("label_enc.weight", "bert.embeddings.position_ids")


def build(size: str, text_encoder: Path) -> nn.Module:
    """The model of a size with random weights, its text encoder of the shape in the folder `text_encoder`.

    Raises DataError when that folder lacks a file.
    """
    with known_warnings(), contextlib.redirect_stdout(io.StringIO()), local_text_encoder(text_encoder):
        import groundingdino.config
        from groundingdino.models import build_model
        from groundingdino.util.slconfig import SLConfig

        config = SLConfig.fromfile(str(Path(groundingdino.config.__file__).parent / CONFIGS[size]))
        config.text_encoder_type = str(text_encoder)
        config.use_checkpoint = config.use_transformer_ckpt = False  # recomputing in the backward pass: there is none
        model: nn.Module = build_model(config)
    return model.eval()


def load(size: str, text_encoder: Path, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model with the weights of a checkpoint. Raises DataError when they are not exactly its own."""
    return fill(build(size, text_encoder), weights, f"Grounding DINO {size}", UNUSED)


def caption_of(phrases: Sequence[str]) -> str:
    """As the package's own: lower case, a full stop after each phrase."""
    return "".join(f"{phrase.lower().strip()} . " for phrase in phrases).strip()


class Detector:
    """The model with one caption, on one device."""

    def __init__(self, model: nn.Module, phrases: Sequence[str], device: torch.device, bf16: bool) -> None:
        """Raises ParamsError when a phrase is empty or holds a separator, or when the caption is too long."""
        self.model = cast(Any, model.to(device))  # its attributes are the package's
        self.device, self.bf16 = device, bf16
        self.caption = caption_of(phrases)
        ids = torch.tensor(self.model.tokenizer(self.caption)["input_ids"], device=device)
        self.spans: Bool[Tensor, "P T"] = boxes.phrase_spans(ids, self.model.specical_tokens)
        if len(self.spans) != len(phrases) or len(ids) > self.model.max_text_len:
            raise ParamsError(
                expected=f"phrases without full stop or question mark, {self.model.max_text_len} tokens at most",
                got=f"{len(phrases)} phrases that read as {len(self.spans)}, {len(ids)} tokens",
                fix="edit annotators.grounded_sam.phrases in params.yaml",
            )

    @torch.inference_mode()
    def find(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B Q T"], Float[Tensor, "B Q 4"]]:
        """Per query: scores of the caption's tokens in [0, 1]; box as centre, width, height in shares of the image."""
        inputs = pixels.for_dino(images)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16), known_warnings():
            found = self.model(inputs, captions=[self.caption] * len(images))
        tokens = self.spans.shape[1]  # the package fills up to max_text_len with -inf
        return found["pred_logits"][..., :tokens].float().sigmoid(), found["pred_boxes"].float()


@contextlib.contextmanager
def known_warnings() -> Iterator[None]:
    """Inside, silence about what the package does that torch no longer likes, and that cannot be changed here."""
    with warnings.catch_warnings():
        for message in (
            ".*torch.meshgrid.*",
            ".*torch.cuda.amp.*",
            ".*timm.models.layers.*",
            ".*Importing from timm.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
