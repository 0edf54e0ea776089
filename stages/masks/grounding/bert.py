"""The text encoder of Grounding DINO: Hugging Face's BERT, asked once for a caption that never changes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from stages.core.errors import DataError

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")  # one of them is enough


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
                found = self._model[
                    0
                ](
                    input_ids=input_ids[:1],
                    attention_mask=attention_mask[:1, None],  # 4-D, so that transformers takes it as it is
                    token_type_ids=token_type_ids[:1],
                    position_ids=position_ids[:1],
                )
            self._known = (input_ids[:1].clone(), found.last_hidden_state)
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
