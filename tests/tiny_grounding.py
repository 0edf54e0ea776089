"""Grounding DINO and SAM as their packages make them, at a size that a test can run, with random weights."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stages.core import io
from stages.masks.grounding import models

PHRASES = {"road": ["road"], "vehicle": ["car", "bus"], "sign": ["traffic light"]}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
# Positions of words are 256 wide in the package's code, so `hidden_dim` cannot be less.
SMALLER = "enc_layers = 1\ndec_layers = 2\ndim_feedforward = 64\nnum_queries = 40\n"


def make_small(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """From here on the sizes swin_t and vit_b are small ones; the text encoder that goes with them is returned."""
    with models.known_warnings():
        import groundingdino.config
        from groundingdino.models.GroundingDINO.backbone import backbone
        from segment_anything import sam_model_registry

    official = Path(groundingdino.config.__file__).parent / models.DINO_CONFIGS["swin_t"]
    config = folder / "small_dino_config.py"
    config.write_text(official.read_text() + "\n" + SMALLER)
    monkeypatch.setitem(models.DINO_CONFIGS, "swin_t", str(config))
    monkeypatch.setattr(backbone, "build_swin_transformer", _small_swin)
    monkeypatch.setitem(sam_model_registry, "vit_b", _small_sam)
    text_encoder = folder / "bert"
    write_text_encoder(text_encoder, [name for some in PHRASES.values() for name in some], TEXT)
    return text_encoder


def write_text_encoder(folder: Path, phrases: Iterable[str], shape: Mapping[str, int]) -> None:
    """A BERT folder, without weights, that knows the words of `phrases` and no others."""
    words = sorted({word for phrase in phrases for word in phrase.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *words]
    config = {"model_type": "bert", "vocab_size": len(vocabulary), "max_position_embeddings": 512, **shape}
    io.write_text(folder / "vocab.txt", "\n".join(vocabulary) + "\n")
    io.write_text(folder / "config.json", json.dumps(config))
    io.write_text(folder / "tokenizer_config.json", json.dumps({"tokenizer_class": "BertTokenizer"}))


def _small_swin(_: str, **options: Any) -> nn.Module:
    from groundingdino.models.GroundingDINO.backbone.swin_transformer import SwinTransformer

    return SwinTransformer(embed_dim=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=7, **options)


def _small_sam() -> nn.Module:
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    return Sam(
        ImageEncoderViT(
            img_size=128, embed_dim=32, depth=2, num_heads=2, out_chans=32, use_rel_pos=True, window_size=3,
            global_attn_indexes=(1,),
        ),
        PromptEncoder(embed_dim=32, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=16),
        MaskDecoder(
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=32, num_heads=2),
            transformer_dim=32,
            iou_head_hidden_dim=16,
        ),
    )  # fmt: skip


def write_checkpoints(folder: Path, text_encoder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Random weights of both small models in the layout of the official files."""
    torch.manual_seed(seed)
    finder, outliner = models.build_dino("swin_t", text_encoder), models.build_sam("vit_b")
    for module in (finder, outliner):
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.data += torch.randn_like(parameter) * 0.05  # some begin at zero, and would be seen nowhere
    weights = {f"module.{name}": tensor for name, tensor in finder.state_dict().items()}
    unused = {"module.label_enc.weight": torch.zeros(3, 2), "module.bert.embeddings.position_ids": torch.arange(4)}
    paths = folder / "groundingdino.pth", folder / "sam.pth"
    torch.save({"model": weights | unused}, paths[0])
    torch.save(outliner.state_dict(), paths[1])
    return paths
