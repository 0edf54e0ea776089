"""Qwen2.5-VL of transformers: whole models, decoder layers, tokenizers, and images as its vision tower reads them.

Real classes, unpatched; works on transformers 5.17 and 5.23.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as hf
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.utils import logging as hf_logging

from stages.core.errors import DataError, ParamsError

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # weights come from a local folder, never from a hub at run time

hf_logging.disable_progress_bar()
Model: TypeAlias = Qwen2_5_VLForConditionalGeneration
Tokenizer: TypeAlias = PreTrainedTokenizerFast
Cache: TypeAlias = DynamicCache

PATCH_PX = 14
MERGE = 2  # patches on a side of a merged token
TOKEN_PX = PATCH_PX * MERGE
FRAMES = 2  # a still image fills both frames of the temporal patch
# Mean and deviation of CLIP's images, which Qwen2.5-VL's preprocessor_config.json gives.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class DecoderShape:
    """The shape of one Qwen2.5-VL decoder layer."""

    width: int  # D
    heads: int
    kv_heads: int
    mlp: int
    rope_theta: float
    mrope_section: tuple[int, int, int]  # rotary pairs for t, h, w; their sum is half a head


QWEN_3B = DecoderShape(width=2048, heads=16, kv_heads=2, mlp=11008, rope_theta=1e6, mrope_section=(16, 24, 24))


class DecoderStack(nn.Module):
    """Qwen2.5-VL decoder layers with full (not causal) attention: what ReconPruner and its decoder are made of."""

    def __init__(self, shape: DecoderShape, layers: int) -> None:
        super().__init__()
        config = Qwen2_5_VLTextConfig(
            vocab_size=1,
            hidden_size=shape.width,
            intermediate_size=shape.mlp,
            num_hidden_layers=layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            rms_norm_eps=1e-6,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": shape.rope_theta,
                "mrope_section": list(shape.mrope_section),
            },
            attn_implementation="sdpa",
            bos_token_id=None,
            eos_token_id=None,
        )
        stack = [hf.Qwen2_5_VLDecoderLayer(config, i) for i in range(layers)]
        for layer in stack:
            layer.self_attn.is_causal = False  # the attention function reads this when no mask is given
        self.layers = nn.ModuleList(stack)
        self.rotary = hf.Qwen2_5_VLRotaryEmbedding(config)

    def forward(self, hidden: Float[Tensor, "B L D"], positions: Int[Tensor, "3 B L"]) -> Float[Tensor, "B L D"]:
        """`hidden` after all layers; `positions` are M-RoPE ids."""
        rotary = self.rotary(hidden, positions)
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=rotary)
        return hidden


def token_grid(size_px: tuple[int, int]) -> tuple[int, int]:
    """(h, w) merged tokens of a W x H image. Raises ParamsError unless both sides are multiples of 28."""
    W, H = size_px
    if W % TOKEN_PX or H % TOKEN_PX or W < TOKEN_PX or H < TOKEN_PX:
        raise ParamsError(
            expected=f"an image size of multiples of {TOKEN_PX} px",
            got=f"{W} x {H}",
            fix="edit vla.size_px in params.yaml",
        )
    return H // TOKEN_PX, W // TOKEN_PX


def patchify(images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "P C"]:
    """Patch rows (channel, frame, y, x) of all images, the four patches of a merged token side by side.

    Reading order. P = B * (H / 14) * (W / 14); C = 3 * 2 * 14 * 14.
    """
    B, _, H, W = images.shape
    h, w = token_grid((W, H))
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    cells = ((images.float() / 255 - mean) / std).view(B, 3, h, MERGE, PATCH_PX, w, MERGE, PATCH_PX)
    rows = cells.permute(0, 2, 5, 3, 6, 1, 4, 7)  # B h w 2 2 3 14 14
    rows = rows.unsqueeze(-3).expand(*rows.shape[:-2], FRAMES, PATCH_PX, PATCH_PX)
    return rows.reshape(B * h * w * MERGE * MERGE, -1)


class PatchMatmul(TorchFunctionMode):
    """Inside this context a conv3d whose kernel is as large as its input is computed by a matrix product.

    On a CPU oneDNN takes 3.4 times as long for the weight gradient of such a convolution (10,752 patches, one thread),
    and a small tower's pass 1.3 times. The model itself stays untouched.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv3d and args[0].shape[2:] == args[1].shape[2:]:
            patches, weight, bias = args[:3]  # (P, C, T, H, W), (D, C, T, H, W) -> (P, D, 1, 1, 1)
            return F.linear(patches.flatten(1), weight.flatten(1), bias)[..., None, None, None]
        return func(*args, **(kwargs or {}))


def encode_images(visual: nn.Module, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
    """Visual tokens after the merger, reading order, with whatever gradient mode is on."""
    B, _, H, W = images.shape
    h, w = token_grid((W, H))
    grid_thw = torch.tensor([[1, 2 * h, 2 * w]] * B, device=images.device)
    rows = patchify(images).to(next(visual.parameters()).dtype)
    with PatchMatmul():
        return visual(rows, grid_thw=grid_thw).pooler_output.view(B, h * w, -1)


def decoder_shape(model: Model) -> DecoderShape:
    """The shape of the checkpoint's own decoder layers."""
    text = model.config.text_config
    rope = text.rope_parameters
    return DecoderShape(
        width=text.hidden_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        mlp=text.intermediate_size,
        rope_theta=float(rope["rope_theta"]),
        mrope_section=tuple(rope["mrope_section"]),
    )


def encoder_fingerprint(model: Model) -> str:
    """A name for the vision encoder: equal when its config is, and its weights are in bfloat16.

    Rounded, so that a model that is loaded in bfloat16 is the one whose pruner was trained in float32.
    """
    vision = model.config.vision_config
    names = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size", "spatial_merge_size")
    more = ("temporal_patch_size", "window_size", "out_hidden_size", "fullatt_block_indexes", "hidden_act")
    fields = {name: getattr(vision, name) for name in names + more}  # others vary with the transformers version
    weights = sorted(model.model.visual.state_dict().items())
    rounded = ({name: tensor.detach().to(torch.bfloat16)} for name, tensor in weights)  # one at a time
    return digest(rounded, repr(sorted((k, str(v)) for k, v in fields.items())).encode())


def build_model(config: dict[str, Any]) -> Model:
    """A model with random weights from the fields of a config.json."""
    return Model(Qwen2_5_VLConfig(**config))


def load_model(checkpoint: Path, made_by: str = "dvc repro train_driver") -> Model:
    """The model of a local folder, in eval mode. Raises DataError when the folder lacks a file or a tensor."""
    for name in ("config.json", "tokenizer.json", "*.safetensors"):
        if not list(checkpoint.glob(name)):
            got = f"no {name} there"
            raise DataError(expected=f"a Qwen2.5-VL checkpoint in {checkpoint}", got=got, fix=f"run `{made_by}`")
    model, info = Model.from_pretrained(
        checkpoint,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="sdpa",
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        got = f"{len(missing)} missing or of another shape, first {missing[0]}"
        raise DataError(expected=f"all weights of the model in {checkpoint}", got=got, fix=f"run `{made_by}`")
    return model.eval()


def load_tokenizer(checkpoint: Path) -> Tokenizer:
    """The tokenizer of a local checkpoint folder."""
    return PreTrainedTokenizerFast.from_pretrained(checkpoint, local_files_only=True)


def first_layers(model: Model, count: int) -> list[dict[str, Float[Tensor, "..."]]]:
    """State dicts in float32 of at most `count` layers, by the names that a Qwen2.5-VL decoder layer gives them."""
    layers = list(model.model.language_model.layers)[:count]
    return [{name: tensor.detach().float() for name, tensor in layer.state_dict().items()} for layer in layers]


def digest(layers: Iterable[Mapping[str, Float[Tensor, "..."]]], begin: bytes = b"") -> str:
    """A name for these weights, and what they begin with: equal weights, equal name."""
    whole = sha256(begin)
    for layer in layers:
        for name, tensor in sorted(layer.items()):
            whole.update(name.encode())
            whole.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:16]
