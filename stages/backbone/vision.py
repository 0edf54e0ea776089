"""The stock vision tower of transformers, run in few attention calls and watched, by hooks that leave no trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stages.backbone.attention import (
    THW,
    VisionFacts,
    attention_received,
    grouped_sdpa,
    joined,
    of_units,
    packing,
    rotate,
    window_index,
)
from stages.backbone.qwen import Model, decoder_shape, encode_images, encoder_fingerprint, hf, load_model, token_grid

# transformers hands packed sequences to an attention in one piece when "flash" is part of its name (`cu_seqlens`
# beside them), and cuts them into windows itself otherwise.
GROUPED = "fastdrive_flash_grouped"
hf.ALL_ATTENTION_FUNCTIONS.register(GROUPED, grouped_sdpa)


@contextmanager
def grouped(visual: Any) -> Iterator[None]:
    """Inside, `visual` runs windows of equal length in one SDPA call; same outputs.

    A tower that is set to another attention than SDPA is left as it is: FlashAttention takes packed windows by itself.
    """
    if visual.config._attn_implementation != "sdpa":
        yield
        return

    def pack(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        grids = grids_of(kwargs["grid_thw"] if "grid_thw" in kwargs else args[1])
        device = next(module.parameters()).device
        return args, kwargs | {
            "fastdrive_packing": packing(grids, window_tokens(module), module.spatial_merge_size, device)
        }

    handle = visual.register_forward_pre_hook(pack, with_kwargs=True)
    visual.config._attn_implementation = GROUPED
    try:
        yield
    finally:
        visual.config._attn_implementation = "sdpa"
        handle.remove()


def grids_of(grid_thw: Tensor) -> tuple[THW, ...]:
    """Frames, patch rows and patch columns of each image, on the host."""
    return tuple((t, h, w) for t, h, w in grid_thw.tolist())


def window_tokens(visual: Any) -> int:
    """Merged tokens on a side of an attention window."""
    return visual.window_size // visual.patch_size // visual.spatial_merge_size


class Watch:
    """Collects what the last full-attention block knows of each image; use as a context around one forward pass."""

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self._block: Any = visual.blocks[max(visual.fullatt_block_indexes)].attn
        self._handles: list[Any] = []
        self._grids: tuple[THW, ...] = ()
        self._index = torch.empty(0, dtype=torch.int64)
        self._received: Tensor | None = None  # (M,), all images one after the other, reading order
        self._features: Tensor | None = None  # (M, C)

    def __enter__(self) -> "Watch":
        whole = self._visual.register_forward_pre_hook(self._note_grids, with_kwargs=True)
        inside = self._block.register_forward_pre_hook(self._read, with_kwargs=True)
        self._handles = [whole, inside]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def of_images(self) -> list[VisionFacts]:
        """One record for each image of the pass, with a batch of one. The images' merged tokens in reading order."""
        assert self._received is not None, "the tower did not run"
        assert self._features is not None, "the tower did not run"
        sizes = [t * h * w // self._visual.spatial_merge_unit for t, h, w in self._grids]
        parts = zip(self._received.split(sizes), self._features.split(sizes), strict=True)
        return [VisionFacts(received[None], features[None]) for received, features in parts]

    def _note_grids(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._grids = grids_of(kwargs["grid_thw"] if "grid_thw" in kwargs else args[1])
        index, _ = window_index(self._grids, window_tokens(module), module.spatial_merge_size)
        self._index = index.to(next(module.parameters()).device)  # here: a copy inside a block would wait

    @torch.no_grad()
    def _read(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        query, key, _ = module.qkv(hidden).unflatten(-1, (3, module.num_heads, -1)).unbind(1)  # S heads d
        cos, sin = (part[:, None].float() for part in kwargs["position_embeddings"])
        turned = [rotate(part.float(), cos, sin).transpose(0, 1) for part in (query, key)]  # heads S d
        frames = [h * w for t, h, w in self._grids for _ in range(t)]
        pairs = zip(*(part.split(frames, dim=1) for part in turned), strict=True)
        received = torch.cat([attention_received(q, k, module.scaling) for q, k in pairs])
        unit = self._visual.spatial_merge_unit
        self._received = of_units(received, unit, self._index)
        self._features = of_units(key.float().mean(dim=1), unit, self._index)


class FastTower:
    """The frozen vision tower of a checkpoint, merger included: windows of equal length in one attention call."""

    def __init__(self, model: Model) -> None:
        self._visual = model.model.visual.eval().requires_grad_(False)
        self.width: int = model.config.vision_config.out_hidden_size
        self.decoder_shape = decoder_shape(model)
        self.fingerprint = encoder_fingerprint(model)
        self.encoded_images = 0  # a counter that tests and tables read

    @property
    def device(self) -> torch.device:
        """Where it runs, and where its tokens are."""
        return next(self._visual.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights and tokens."""
        return next(self._visual.parameters()).dtype

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "FastTower":
        """Move it to `device`, its weights as `dtype` (None: as they are); returns itself.

        Rotary frequencies stay in fp32, as in a model that is loaded in bfloat16: Module.to would round them.
        """
        for parameter in self._visual.parameters():
            parameter.data = parameter.data.to(device, dtype or parameter.dtype)
        for buffer in self._visual.buffers():
            buffer.data = buffer.data.to(device)
        return self

    def grid(self, size_px: tuple[int, int]) -> tuple[int, int]:
        """(h, w) tokens of a W x H image."""
        return token_grid(size_px)

    def encode(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """Visual tokens in reading order, on the tower's device; so is all work on the pixels."""
        with grouped(self._visual), torch.inference_mode():
            tokens = encode_images(self._visual, images.to(self.device, non_blocking=True))
        self.encoded_images += images.shape[0]
        return tokens.clone()  # a normal tensor, so that autograd may save it

    def encode_watched(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B N D"], VisionFacts]:
        """Visual tokens, and the importance and features of each."""
        with Watch(self._visual) as watch:
            tokens = self.encode(images)
        return tokens, joined(watch.of_images(), 0)


def load_vision(checkpoint: Path) -> FastTower:
    """The frozen tower of a local checkpoint folder."""
    return FastTower(load_model(checkpoint))
