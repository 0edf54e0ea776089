"""What the benchmark of Grounded-SAM runs: both models at full size with random weights, and photos of nothing."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from stages import files
from stages.masks.base import CLASSES
from stages.masks.grounding import dino, sam
from stages.masks.grounding.boxes import Rules
from stages.masks.grounding.pipeline import Pipeline, flat_phrases
from stages.scenes.base import Camera

PHRASES: Mapping[str, tuple[str, ...]] = {  # as in params.yaml: what sets the length of the caption
    "road": ("road",),
    "vehicle": ("car", "truck", "bus", "trailer", "motorcycle", "bicycle"),
    "human": ("person",),
    "sign": ("traffic sign", "traffic light"),
    "barrier": ("traffic barrier", "traffic cone"),
}
BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def write_text_encoder(folder: Path, phrases: Iterable[str], shape: Mapping[str, int]) -> None:
    """A BERT folder, without weights, that knows the words of `phrases` and no others."""
    words = sorted({word for phrase in phrases for word in phrase.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *words]
    config = {"model_type": "bert", "vocab_size": len(vocabulary), "max_position_embeddings": 512, **shape}
    files.write_text(folder / "vocab.txt", "\n".join(vocabulary) + "\n")
    files.write_text(folder / "config.json", json.dumps(config))
    files.write_text(folder / "tokenizer_config.json", json.dumps({"tokenizer_class": "BertTokenizer"}))


def write_photos(folder: Path, count: int, size_px: tuple[int, int]) -> list[Camera]:
    """Cameras with JPEGs of smoothed noise: about the bytes, and the decoding time, of a street."""
    import cv2

    W, H = size_px
    rng, cameras = np.random.default_rng(0), []
    for i in range(count):
        coarse = cv2.resize(rng.integers(0, 256, (H // 8, W // 8, 3), np.uint8), size_px, interpolation=cv2.INTER_CUBIC)
        path = folder / f"{i}.jpg"
        cv2.imwrite(str(path), coarse)
        cameras.append(Camera("CAM_FRONT", f"image-{i}", path, size_px, np.eye(3), np.eye(4)))
    return cameras


def random_pipeline(
    dino_size: str, sam_size: str, boxes: int, device: torch.device, bf16: bool, text_encoder: Path
) -> Pipeline:
    """Both models as they are drawn. The threshold is so low that every image has `boxes` boxes, as streets have."""
    torch.manual_seed(0)
    names, classes = flat_phrases(PHRASES, device)
    return Pipeline(
        dino.Detector(dino.build(dino_size, text_encoder), names, device, bf16),
        sam.Segmenter(sam.build(sam_size), device, bf16),
        names,
        classes,
        Rules(1e-6, 1e-6, 0.8, 1.0, (1.0,) * len(CLASSES), boxes),
    )
