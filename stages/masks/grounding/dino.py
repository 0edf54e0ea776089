"""Grounding DINO: images and a caption -> a box and token scores per query. The package's own model and configs.

Its text encoder is Hugging Face's BERT, asked once for a caption that never changes.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from stages.core.errors import DataError, ParamsError
from stages.masks.grounding.inputs import Source, fill, for_dino

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

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")  # one of them is enough


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
        self.spans: Bool[Tensor, "P T"] = phrase_spans(ids, self.model.specical_tokens)
        if len(self.spans) != len(phrases) or len(ids) > self.model.max_text_len:
            raise ParamsError(
                expected=f"phrases without full stop or question mark, {self.model.max_text_len} tokens at most",
                got=f"{len(phrases)} phrases that read as {len(self.spans)}, {len(ids)} tokens",
                fix="edit annotators.grounded_sam.phrases in params.yaml",
            )

    @torch.inference_mode()
    def find(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B Q T"], Float[Tensor, "B Q 4"]]:
        """Per query: scores of the caption's tokens in [0, 1]; box as centre, width, height in shares of the image."""
        inputs = for_dino(images)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16), known_warnings():
            output = self.model(inputs, captions=[self.caption] * len(images))
        tokens = self.spans.shape[1]  # the package fills up to max_text_len with -inf
        return output["pred_logits"][..., :tokens].float().sigmoid(), output["pred_boxes"].float()


def phrase_spans(ids: Int[Tensor, " T"], separators: Sequence[int]) -> Bool[Tensor, "P T"]:
    """Which tokens are whose: phrases are what lies between separators ([CLS], full stops, [SEP])."""
    special = torch.isin(ids, torch.tensor(list(separators), device=ids.device))
    group = special.cumsum(0).masked_fill(special, 0)
    own = group.unique()
    return group == own[own > 0][:, None]


@contextmanager
def known_warnings() -> Iterator[None]:
    """Inside, silence about what the package does that torch no longer likes, and that cannot be changed here."""
    with warnings.catch_warnings():
        for message in (
            ".*torch.meshgrid.*",
            ".*torch.cuda.amp.*",
            ".*timm.models.layers.*",
            ".*Importing from timm.*",
            ".*invalid escape sequence.*",  # Python compiles the package on its first import
        ):
            warnings.filterwarnings("ignore", message=message)
        yield


class TextEncoder(nn.Module):
    """Takes the place of groundingdino's BertModelWarper, which calls methods that transformers 5 no longer has.

    Its weights have the same names (embeddings, encoder, pooler), so that official checkpoints load.
    """

    def __init__(self, bert_model: BertModel) -> None:
        super().__init__()
        self.config = bert_model.config
        self.embeddings, self.encoder, self.pooler = bert_model.embeddings, bert_model.encoder, bert_model.pooler
        self._model = [bert_model]  # in a list: as a submodule its weights would have a second name
        self._known: tuple[Tensor, Tensor] | None = None

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Bool[Tensor, "B T T"],
        token_type_ids: Int[Tensor, "B T"],
        position_ids: Int[Tensor, "B T"],
    ) -> dict[str, Float[Tensor, "B T width"]]:
        """The last hidden state: computed for the first image that comes with a caption, then repeated.

        Raises ValueError when the rows are not all of one caption.
        """
        if self._known is None or not torch.equal(self._known[0].expand_as(input_ids), input_ids):
            if not torch.equal(input_ids[:1].expand_as(input_ids), input_ids):
                raise ValueError("one caption for all images of a batch, please")
            # Once, so in full precision: bf16 would save nothing here.
            with torch.autocast(input_ids.device.type, enabled=False):
                output = self._model[
                    0
                ](
                    input_ids=input_ids[:1],
                    attention_mask=attention_mask[:1, None],  # 4-D, so that transformers takes it as it is
                    token_type_ids=token_type_ids[:1],
                    position_ids=position_ids[:1],
                )
            self._known = (input_ids[:1].clone(), output.last_hidden_state)
        return {"last_hidden_state": self._known[1].expand(len(input_ids), -1, -1)}

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        self._known = None  # of the former weights
        super()._load_from_state_dict(*args, **kwargs)


@contextmanager
def local_text_encoder(folder: Path) -> Iterator[None]:
    """Inside, groundingdino builds its text encoder from `folder`: shape and words, no weights, never the network.

    The weights of the text encoder are part of Grounding DINO's checkpoint, where they were trained on.
    Raises DataError when the folder lacks a file.
    """
    require_folder(folder)
    _go_offline()
    from groundingdino.models.GroundingDINO import groundingdino as package
    from groundingdino.util import get_tokenlizer

    former = package.BertModelWarper, get_tokenlizer.get_pretrained_language_model
    package.BertModelWarper = TextEncoder
    get_tokenlizer.get_pretrained_language_model = lambda path: BertModel(BertConfig.from_pretrained(path))
    try:
        yield
    finally:
        package.BertModelWarper, get_tokenlizer.get_pretrained_language_model = former


def require_folder(folder: Path) -> None:
    """Raises DataError unless `folder` holds the shape of a BERT and its words."""
    lacking = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        lacking.append(" or ".join(TOKENIZER_FILES))
    if lacking:
        raise DataError(
            expected=f"a BERT folder {folder} (annotators.grounded_sam.text_encoder)",
            got=f"no {', no '.join(lacking)} there" if folder.is_dir() else "no such folder",
            fix="put config.json and tokenizer files of google-bert/bert-base-uncased (Hugging Face) there",
        )


def _go_offline() -> None:
    """The variable is read when huggingface_hub is imported; its constant is for when that has happened."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
