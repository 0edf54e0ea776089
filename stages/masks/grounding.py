"""Grounding DINO (images and a caption -> a box and token scores per query) and SAM (boxes -> masks by class).

The packages' own models and configs, with official checkpoints named by path and sha256 and read without running
anything that they hold. Grounding DINO's text encoder is Hugging Face's BERT, asked once for a caption that never
changes.
"""

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import BertConfig, BertModel

from stages.core.errors import DataError, ParamsError
from stages.core.io import sha256 as sha256_of
from stages.masks.base import CLASSES

DINO_CONFIGS = {"swin_t": "GroundingDINO_SwinT_OGC.py", "swin_b": "GroundingDINO_SwinB_cfg.py"}
DINO_SOURCES = {
    "swin_t": "groundingdino_swint_ogc.pth from release v0.1.0-alpha of github.com/IDEA-Research/GroundingDINO",
    "swin_b": "groundingdino_swinb_cogcoor.pth from release v0.1.0-alpha2 of github.com/IDEA-Research/GroundingDINO",
}
SAM_FILES = {"vit_h": "sam_vit_h_4b8939.pth", "vit_l": "sam_vit_l_0b3195.pth", "vit_b": "sam_vit_b_01ec64.pth"}
SAM_SOURCES = {
    size: f"{file} from the list of model checkpoints in the README of github.com/facebookresearch/segment-anything"
    for size, file in SAM_FILES.items()
}
# In the official files and not in the model: labels for denoising in training, and a buffer that older versions of
# transformers stored.
UNUSED = ("label_enc.weight", "bert.embeddings.position_ids")
DINO_SIDES_PX = (800, 1333)  # the shorter side, unless the longer one would pass its own
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, deviation
# Where masks overlap, the later class is in sight: what stands on the road is in front of it, and the smaller thing was
# found because it can be seen. The layers keep what it hides.
ORDER = ("road", "vehicle", "barrier", "human", "sign")


def require(path: Path, sha256: str | None, source: str, key: str) -> None:
    """Raise DataError when a checkpoint, which `source` has, is not there; ParamsError when `key` names no hash."""
    if not path.is_file():
        raise DataError(expected=f"the checkpoint {path}", got="no such file", fix=f"put {source} there")
    if sha256 is None:
        raise ParamsError(
            expected=f"the sha256 of {path} in annotators.grounded_sam.{key}",
            got="null: no file is trusted by its name",
            fix=f"take {source}, compare what `sha256sum {path}` prints with a source you trust, write it there",
        )


def read_weights(path: Path, sha256: str | None, source: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, without the `module.` of data-parallel training. Raises DataError when the
    file has another hash or holds more than tensors.
    """
    fix = f"put {source} there again"
    if (got := sha256_of(path)) != sha256:
        raise DataError(expected=f"{path} with sha256 {sha256}", got=got, fix=fix)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {name.removeprefix("module."): tensor for name, tensor in content.get("model", content).items()}
    except Exception as error:  # of many kinds: pickle's, zip's, torch's own
        raise DataError(expected=f"nothing but tensors by name in {path}", got=str(error)[:300], fix=fix) from error


def fill(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> nn.Module:
    """Return the model with exactly these weights but the `UNUSED`. Raises DataError when names or shapes differ."""
    try:
        model.load_state_dict({key: tensor for key, tensor in weights.items() if key not in UNUSED})
    except RuntimeError as error:
        raise DataError(
            expected=f"exactly the weights of {name}",
            got=" ".join(str(error).split())[:300],
            fix="name the checkpoint that belongs to the size in annotators.grounded_sam of params.yaml",
        ) from error
    return model


def require_text_encoder(folder: Path) -> None:
    """Raise DataError unless `folder` holds the shape of a BERT and its words."""
    words = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    if not words or not (folder / "config.json").is_file():
        raise DataError(
            expected=f"config.json and tokenizer.json or vocab.txt of a BERT in {folder}",
            got="not all of them",
            fix="put config.json and tokenizer files of google-bert/bert-base-uncased (Hugging Face) there",
        )


def build_dino(size: str, text_encoder: Path) -> nn.Module:
    """Return the model of a size with random weights; `text_encoder` is the folder with the shape of its BERT, whose
    weights are part of Grounding DINO's checkpoint.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported; its constant is for when it was before
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    with known_warnings(), redirect_stdout(io.StringIO()):
        import groundingdino.config
        from groundingdino.models import build_model
        from groundingdino.models.GroundingDINO import groundingdino as package
        from groundingdino.util import get_tokenlizer
        from groundingdino.util.slconfig import SLConfig

        package.BertModelWarper = TextEncoder
        get_tokenlizer.get_pretrained_language_model = lambda path: BertModel(BertConfig.from_pretrained(path))
        config = SLConfig.fromfile(str(Path(groundingdino.config.__file__).parent / DINO_CONFIGS[size]))
        config.text_encoder_type = str(text_encoder)
        config.use_checkpoint = config.use_transformer_ckpt = False  # recomputing in the backward pass: there is none
        return build_model(config).eval()


def build_sam(size: str) -> nn.Module:
    """Return the model of a size with random weights."""
    from segment_anything import sam_model_registry

    return sam_model_registry[size]().eval()


@contextmanager
def known_warnings() -> Iterator[None]:
    """Inside, silence about what the package does that torch no longer likes, and that cannot be changed here."""
    with warnings.catch_warnings():
        words = "torch.meshgrid|torch.cuda.amp|timm.models.layers|Importing from timm|invalid escape"
        warnings.filterwarnings("ignore", message=f".*({words})")
        yield


class TextEncoder(nn.Module):
    """Replaces groundingdino's BertModelWarper, broken by transformers 5; its weights have the same names."""

    def __init__(self, bert_model: BertModel) -> None:
        super().__init__()
        self.config = bert_model.config
        self.embeddings, self.encoder, self.pooler = bert_model.embeddings, bert_model.encoder, bert_model.pooler
        self._model = [bert_model]  # in a list: as a submodule its weights would have a second name
        self._hidden: Tensor | None = None

    def forward(self, input_ids: Int[Tensor, "B T"], **inputs: Tensor) -> dict[str, Float[Tensor, "B T width"]]:
        """Return the last hidden state: computed for the first image, then repeated, for a model has one caption."""
        if self._hidden is None:
            first = {name: value[:1] for name, value in inputs.items()}
            first["attention_mask"] = first["attention_mask"][:, None]  # 4-D, so that transformers takes it as it is
            # Once, so in full precision: bf16 would save nothing here.
            with torch.autocast(input_ids.device.type, enabled=False):
                self._hidden = self._model[0](input_ids=input_ids[:1], **first).last_hidden_state
        return {"last_hidden_state": self._hidden.expand(len(input_ids), -1, -1)}


class Detector:
    """Grounding DINO with one caption, on one device."""

    def __init__(self, model: nn.Module, phrases: Sequence[str], device: torch.device, bf16: bool) -> None:
        """Raises ParamsError when a phrase is empty or holds a separator, or when the caption is too long."""
        self.model = cast(Any, model.to(device))  # its attributes are the package's
        self.device, self.bf16 = device, bf16
        # As the package's own: lower case, a full stop after each phrase
        self.caption = "".join(f"{phrase.lower().strip()} . " for phrase in phrases).strip()
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
    """Return the tokens of each phrase: phrases are what lies between separators ([CLS], full stops, [SEP])."""
    special = torch.isin(ids, torch.tensor(list(separators), device=ids.device))
    group = special.cumsum(0).masked_fill(special, 0)
    own = group.unique()
    return group == own[own > 0][:, None]


def for_dino(pixels: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 h w"]:
    """Resize and normalise by ImageNet's mean and deviation."""
    mean, deviation = (torch.tensor(values, device=pixels.device)[:, None, None] for values in IMAGENET)
    return (resized(pixels, dino_size_px((pixels.shape[-1], pixels.shape[-2]))) / 255 - mean) / deviation


def dino_size_px(size_px: tuple[int, int]) -> tuple[int, int]:
    """W, H that Grounding DINO reads (its RandomResize([800], max_size=1333)): 1333 x 750 of 1600 x 900."""
    short, long = sorted(size_px)
    side = round(min(float(DINO_SIDES_PX[0]), DINO_SIDES_PX[1] * short / long))
    other = int(side * long / short)
    return (other, side) if size_px[0] >= size_px[1] else (side, other)


def resized(pixels: UInt8[Tensor, "B 3 H W"], size_px: tuple[int, int]) -> Float[Tensor, "B 3 h w"]:
    """Bilinear with antialiasing, values 0-255: what Pillow does for both packages, but on the device, unrounded."""
    W, H = size_px
    return interpolate(pixels.float(), (H, W), mode="bilinear", align_corners=False, antialias=True)


class Segmenter:
    """SAM on one device: images in a batch, all boxes of an image in one call, no synchronisation with the host."""

    def __init__(self, model: nn.Module, device: torch.device, bf16: bool) -> None:
        self.model = cast(Any, model.to(device))  # its attributes are the package's
        self.device, self.bf16 = device, bf16

    @torch.inference_mode()
    def maps(
        self,
        images: UInt8[Tensor, "B 3 H W"],
        boxes_xyxy: Sequence[Float[Tensor, "_ 4"]],
        classes: Sequence[Int[Tensor, " _"]],
    ) -> UInt8[Tensor, "B 2 H W"]:
        """Class in sight and layers as bits, from the boxes of each image in its pixels; without: 0."""
        maps = images.new_zeros((len(images), 2, *images.shape[-2:]))
        busy = [i for i, found in enumerate(boxes_xyxy) if len(found)]
        if busy:
            features = self.features(images[busy])
            for row, image in enumerate(busy):
                masks = self.masks(features[row : row + 1], boxes_xyxy[image], images.shape[-2:])
                maps[image] = class_maps(masks, classes[image])
        return maps

    def features(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Features of a batch from the image encoder."""
        inputs = self.model.preprocess(resized(images, self._inner_px(images.shape[-2:])))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model.image_encoder(inputs)

    def masks(
        self, features: Float[Tensor, "1 C h w"], boxes_xyxy: Float[Tensor, "M 4"], size: Sequence[int]
    ) -> Bool[Tensor, "M H W"]:
        """One mask per box, at `size` = (H, W) of the image."""
        inner_px = self._inner_px(size)
        scale = boxes_xyxy.new_tensor([inner_px[0] / size[1], inner_px[1] / size[0]]).repeat(2)
        # Prompts in full precision: bf16 has three digits, and a corner of a box needs four.
        sparse, dense = self.model.prompt_encoder(points=None, boxes=boxes_xyxy * scale, masks=None)
        places = self.model.prompt_encoder.get_dense_pe()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            low, _ = self.model.mask_decoder(
                image_embeddings=features,
                image_pe=places,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,  # a box leaves no doubt about the part that is meant
            )
        logits = self.model.postprocess_masks(low.float(), inner_px[::-1], tuple(size))[:, 0]
        return logits > self.model.mask_threshold

    def _inner_px(self, size: Sequence[int]) -> tuple[int, int]:
        """W, H of an image of (H, W) pixels within SAM's square."""
        from segment_anything.utils.transforms import ResizeLongestSide

        H, W = ResizeLongestSide.get_preprocess_shape(size[0], size[1], self.model.image_encoder.img_size)
        return W, H


def class_maps(masks: Bool[Tensor, "M H W"], classes: Int[Tensor, " M"]) -> UInt8[Tensor, "2 H W"]:
    """Masks of boxes -> 1 + index of the class in sight, 0 background; each class whole, as bits."""
    seen, bits = (torch.zeros_like(masks[0], dtype=torch.uint8) for _ in range(2))
    for name in ORDER:
        index = CLASSES.index(name)
        layer = (masks & (classes == index)[:, None, None]).any(0)
        seen = torch.where(layer, seen.new_tensor(index + 1), seen)
        bits |= layer.to(torch.uint8) << index
    return torch.stack([seen, bits])
