import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from one_frame import make_frame
from tiny_grounding import PHRASES, make_small, write_checkpoints

from stages.core.errors import DataError, MachineError, ParamsError
from stages.masks import base
from stages.masks.base import CLASSES, Mask
from stages.masks.grounded_sam import Annotator
from stages.masks.grounding import models
from stages.scenes.base import Camera, Frame

SIZE_PX = (160, 90)


def photo(path: Path, seed: int, size_px: tuple[int, int] = SIZE_PX) -> tuple[Frame, Camera]:
    """A frame and its camera with an image of coloured patches."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size_px, interpolation=cv2.INTER_CUBIC))
    return make_frame(path), Camera("CAM_FRONT", path.stem, path, size_px, np.eye(3), np.eye(4))


@pytest.fixture
def annotator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Annotator:
    """Small models behind official-looking checkpoints; images are read at a tenth of the usual size."""
    text_encoder = make_small(monkeypatch, tmp_path)
    monkeypatch.setattr(models, "DINO_SIDES_PX", (80, 133))
    finder, outliner = write_checkpoints(tmp_path, text_encoder)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (finder, outliner)]
    loaded = base.load("grounded_sam", None, {
        "dino_checkpoint": str(finder), "dino_sha256": hashes[0], "text_encoder": str(text_encoder), "sam": "vit_b",
        "sam_checkpoint": str(outliner), "sam_sha256": hashes[1], "phrases": PHRASES, "bf16": False, "device": "cpu",
        "most_boxes": 12, "images_at_once": 3,
    })  # fmt: skip
    assert isinstance(loaded, Annotator)
    return loaded


def classes_of(mask: Mask) -> NDArray[np.uint8]:
    assert mask.classes is not None
    return mask.classes


def test_images_become_masks_with_phrases_boxes_and_classes(annotator: Annotator, tmp_path: Path) -> None:
    images = [photo(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    for mask in annotator.annotate(images):
        assert mask.foreground.shape == (90, 160)
        assert 0 < mask.foreground.mean() < 1
        np.testing.assert_array_equal(mask.foreground, classes_of(mask) > 0)
        assert len(mask.phrases) == len(mask.boxes_xyxy) == 12
        assert set(mask.phrases) <= {phrase for some in PHRASES.values() for phrase in some}
        assert mask.layers is not None
        np.testing.assert_array_equal(mask.layers > 0, mask.foreground)
        assert {CLASSES[i - 1] for i in np.unique(classes_of(mask)) if i} <= set(PHRASES)
        assert (mask.boxes_xyxy >= 0).all()
        assert (mask.boxes_xyxy <= [160, 90, 160, 90]).all()
    assert annotator.annotate([]) == []


def test_a_batch_gives_what_its_images_give_alone(annotator: Annotator, tmp_path: Path) -> None:
    images = [photo(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    together = annotator.annotate(images)
    for mask, image in zip(together, images, strict=True):
        (alone,) = annotator.annotate([image])
        assert mask.phrases == alone.phrases
        np.testing.assert_allclose(mask.boxes_xyxy, alone.boxes_xyxy, atol=0.05)
        for number in np.unique(classes_of(alone)):
            ours, theirs = classes_of(mask) == number, classes_of(alone) == number
            assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.99


def test_the_text_is_encoded_once(annotator: Annotator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertModel

    calls, stock = list[int](), BertModel.forward

    def counted(self: BertModel, *args: object, **kwargs: object) -> object:
        calls.append(1)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(BertModel, "forward", counted)
    images = [photo(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    annotator.annotate(images)
    annotator.annotate(images[:1])
    assert len(calls) == 1


def test_images_of_two_sizes_are_refused(annotator: Annotator, tmp_path: Path) -> None:
    images = [photo(tmp_path / "0.png", 0), photo(tmp_path / "1.png", 1, (80, 45))]
    with pytest.raises(DataError, match="one size in a batch, got 80 x 45, 160 x 90"):
        annotator.annotate(images)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("dino", "swin_l", "one of swin_t, swin_b as dino"),
        ("box_threshold", 1.5, "between 0 and 1 as box_threshold"),
        ("device", "gpu", "auto, cpu, cuda or cuda:<number> as device"),
        ("most_boxes", 0, "a positive number as most_boxes"),
        ("phrases", {"road": "road"}, "a list of words for each class as phrases"),
        ("largest_box_shares", {"roads": 1.0}, "as largest_box_shares"),
    ],
)
def test_an_option_that_cannot_be_is_refused(annotator: Annotator, option: str, value: object, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        replace(annotator, **{option: value})


def test_a_gpu_that_is_too_small_is_said_to_need_fewer_images_at_once(
    annotator: Annotator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore words")

    monkeypatch.setattr(annotator._pipeline.segmenter, "features", full)
    with pytest.raises(MachineError, match=r"3 images at once .*allocate 9 GiB\.. To fix: lower .*\.images_at_once"):
        annotator.annotate([photo(tmp_path / "0.png", 0)])


def test_a_stream_gives_what_its_batches_give_and_reads_one_ahead(annotator: Annotator, tmp_path: Path) -> None:
    images = [photo(tmp_path / f"{seed}.png", seed) for seed in range(5)]
    batches, drawn = [images[:2], images[2:4], images[4:]], list[int]()
    stream = annotator.stream((drawn.append(i), batch)[1] for i, batch in enumerate(batches))
    for number, batch in enumerate(batches):
        for ours, theirs in zip(next(stream), annotator.annotate(batch), strict=True):
            np.testing.assert_array_equal(classes_of(ours), classes_of(theirs))
        assert drawn == list(range(min(number + 2, 3)))
