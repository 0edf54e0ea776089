"""The stock vision tower of transformers, run in few attention calls and watched, by hooks that leave no trace.

The tower of transformers calls the attention once per window (6,304 times at 1596 x 1596). Windows of equal length are
independent rows of a batch, so three calls a block do (196 of 64 patches, 28 of 16, one of 4): 88 in a forward.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from stages.backbone.attention import VisionFacts, joined, rotate
from stages.backbone.qwen import Model, decoder_shape, encode_images, encoder_fingerprint, hf, token_grid

BLOCK_ROWS = 256  # 256 rows x 12,996 columns x 16 heads in fp32 are 213 MB, held twice; all rows would be 10.8 GB
THW = tuple[int, int, int]  # frames, rows and columns of patches, as `grid_thw` gives them
Groups = dict[int, Tensor]  # packed sequences by length: where their rows stand, sequence by sequence


def window_index(grids: Sequence[THW], window_tokens: int, merge: int) -> tuple[Int[Tensor, " M"], list[int]]:
    """Merged tokens of all images in window order, and the patches in each window; M merged tokens in all.

    `raster[index]` is in window order. A window is at most `window_tokens` merged tokens (of `merge` x `merge` patches)
    high and wide; those at the right and lower border may be smaller. Windows in reading order, tokens in them too.
    Rule: `get_window_index` of transformers 4.51.3, checked on tests/cases/qwen_window_*.
    """
    parts: list[Tensor] = []
    first = 0
    for frames, rows, columns in grids:
        h, w = rows // merge, columns // merge
        ids = first + torch.arange(frames * h * w).view(frames, h, w)
        first += frames * h * w
        for frame in ids:
            for band in frame.split(window_tokens, dim=0):
                parts += [window.flatten() for window in band.split(window_tokens, dim=1)]
    return torch.cat(parts), [len(part) * merge**2 for part in parts]


def groups_of(lengths: Sequence[int], device: torch.device) -> Groups:
    """Packed sequences of `lengths` by length."""
    sizes = torch.tensor(lengths)
    starts = sizes.cumsum(0) - sizes
    groups = {n: (starts[sizes == n][:, None] + torch.arange(n)).flatten() for n in dict.fromkeys(lengths)}
    return {n: rows.to(device) for n, rows in groups.items()}


@dataclass(frozen=True)
class Packing:
    """How a tower packs the patches of its images."""

    index: Int[Tensor, " M"]  # merged tokens in window order
    groups: dict[int, Groups]  # windows or whole frames, by their number, which a block's `cu_seqlens` tells


def packing_of(visual: Any, grids: tuple[THW, ...]) -> Packing:
    """The packing of images of `grids` in this tower."""
    merge = visual.spatial_merge_size
    side = visual.window_size // visual.patch_size // merge
    return packing(grids, side, merge, next(visual.parameters()).device)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # a later pass with these sizes may want gradients
def packing(grids: tuple[THW, ...], window_tokens: int, merge: int, device: torch.device) -> Packing:
    """The packing of images of `grids`, on the device ahead of the blocks: a copy inside one would wait."""
    frames = [rows * columns for count, rows, columns in grids for _ in range(count)]
    index, windows = window_index(grids, window_tokens, merge)
    # As many windows as frames: each frame is one window
    groups = {len(windows): groups_of(windows, device), len(frames): groups_of(frames, device)}
    return Packing(index.to(device), groups)


def grids_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[THW, ...]:
    """Frames, patch rows and patch columns of each image, on the host, from what the tower was called with."""
    grid_thw = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
    return tuple((t, h, w) for t, h, w in grid_thw.tolist())


def grouped_sdpa(
    module: Any,
    query: Float[Tensor, "1 heads S d"],
    key: Float[Tensor, "1 heads S d"],
    value: Float[Tensor, "1 heads S d"],
    attention_mask: Tensor | None = None,
    *,
    scaling: float,
    cu_seq_lens_q: Int[Tensor, " bounds"],
    fastdrive_packing: dict[int, Groups] | None = None,
    **unused: Any,
) -> tuple[Float[Tensor, "1 S heads d"], None]:
    """Attention of packed sequences to themselves, one call for each length; a function of transformers' kind.

    Reads nothing back from the device: how many sequences there are is the shape of `cu_seq_lens_q`.
    """
    if fastdrive_packing is None:  # another tower that shares the config of the one inside `grouped`
        groups = groups_of(cu_seq_lens_q.diff().tolist(), query.device)
    else:
        groups = fastdrive_packing[cu_seq_lens_q.shape[0] - 1]
    out = torch.empty_like(query[0].transpose(0, 1))  # S heads d
    for length, rows in groups.items():
        packed = (part[0].index_select(1, rows) for part in (query, key, value))
        q, k, v = (part.unflatten(1, (-1, length)).transpose(0, 1) for part in packed)  # sequences heads length d
        mixed = F.scaled_dot_product_attention(q, k, v, scale=scaling)
        out.index_copy_(0, rows, mixed.transpose(1, 2).flatten(0, 1))
    return out[None], None


def attention_received(
    query: Float[Tensor, "heads S d"], key: Float[Tensor, "heads S d"], scaling: float, block_rows: int = BLOCK_ROWS
) -> Float[Tensor, " S"]:
    """Column sums of the softmax attention over all queries, mean over heads, in fp32; `block_rows` rows at a time."""
    received = torch.zeros(key.shape[1], device=key.device)
    columns = key.float().transpose(1, 2)
    for rows in query.split(block_rows, dim=1):
        received += ((rows.float() @ columns) * scaling).softmax(dim=-1).sum(dim=1).mean(dim=0)
    return received


def of_units(patches: Float[Tensor, "S ..."], unit: int, index: Int[Tensor, " M"]) -> Float[Tensor, "M ..."]:
    """Means over the `unit` patches of each merged token, from window order (`index`) back to reading order."""
    means = patches.unflatten(0, (-1, unit)).mean(dim=1)
    return torch.empty_like(means).index_copy_(0, index, means)


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
        return args, kwargs | {"fastdrive_packing": packing_of(module, grids_of(args, kwargs)).groups}

    handle = visual.register_forward_pre_hook(pack, with_kwargs=True)
    visual.config._attn_implementation = GROUPED
    try:
        yield
    finally:
        visual.config._attn_implementation = "sdpa"
        handle.remove()


class Watch:
    """Collects what the last full-attention block knows of each image; use as a context around forward passes."""

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self._block: Any = visual.blocks[max(visual.fullatt_block_indexes)].attn
        self._handles: list[Any] = []
        self._grids: tuple[THW, ...] = ()
        self._index = torch.empty(0, dtype=torch.int64)
        self.images: list[VisionFacts] = []  # of the last pass, one record for each image, with a batch of one

    def __enter__(self) -> "Watch":
        whole = self._visual.register_forward_pre_hook(self._note_grids, with_kwargs=True)
        inside = self._block.register_forward_pre_hook(self._read, with_kwargs=True)
        self._handles = [whole, inside]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note_grids(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._grids = grids_of(args, kwargs)
        self._index = packing_of(module, self._grids).index

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
        sizes = [t * h * w // unit for t, h, w in self._grids]
        known = (of_units(part, unit, self._index).split(sizes) for part in (received, key.float().mean(dim=1)))
        self.images = [
            VisionFacts(importance[None], features[None]) for importance, features in zip(*known, strict=True)
        ]


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
        return tokens, joined(watch.images, 0)
