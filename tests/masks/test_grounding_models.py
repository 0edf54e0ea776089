"""Ours against what the packages' own demos do with one image, on small models with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_grounding import PHRASES, make_small

from stages.core.errors import DataError
from stages.masks import base
from stages.masks.grounding import dino, sam
from stages.masks.grounding.pixels import for_dino

CPU = torch.device("cpu")


@pytest.fixture
def photo() -> np.ndarray:
    """(90, 160, 3) RGB, smooth: the packages round after resizing, we do not."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((160, 90), Image.Resampling.BICUBIC))


def test_images_reach_grounding_dino_as_its_own_transforms_make_them(photo: np.ndarray) -> None:
    with dino.known_warnings():
        import groundingdino.datasets.transforms as T
    steps = [
        T.RandomResize([800], max_size=1333),
        T.ToTensor(),
        T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    wanted, _ = T.Compose(steps)(Image.fromarray(photo), None)
    ours = for_dino(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None])[0]
    assert ours.shape == wanted.shape == (3, 750, 1333)
    assert (ours - wanted).abs().max() < 1.1 / 255 / 0.224  # one step of eight bits


def test_masks_are_those_of_the_predictor_of_sam(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segment_anything import SamPredictor

    make_small(monkeypatch, tmp_path)
    torch.manual_seed(1)
    model, boxes = sam.build("vit_b"), torch.tensor([[10.0, 10, 60, 60], [80, 20, 150, 80], [0, 0, 160, 90]])
    predictor = SamPredictor(model)
    predictor.set_image(photo)
    prompts = predictor.transform.apply_boxes_torch(boxes, (90, 160))
    wanted, _, _ = predictor.predict_torch(None, None, prompts, multimask_output=False)
    segmenter = sam.Segmenter(model, CPU, bf16=False)
    with torch.inference_mode():
        features = segmenter.features(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None])
        masks = segmenter.masks(features, boxes, (90, 160))
    assert 0 < masks.float().mean() < 1
    assert (masks & wanted[:, 0]).sum() / (masks | wanted[:, 0]).sum() >= 0.99


def test_the_text_encoder_gives_what_bert_gives_for_each_phrase_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words see the words of their own phrase only, at places counted from its start."""
    model = dino.build("swin_t", make_small(monkeypatch, tmp_path))
    detector = dino.Detector(model, [name for some in PHRASES.values() for name in some], CPU, bf16=False)
    seen = list[torch.Tensor]()
    model.bert.register_forward_hook(lambda _, __, out: seen.append(out["last_hidden_state"]))  # type: ignore[union-attr]
    detector.find(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    ids = torch.tensor([detector.model.tokenizer("traffic light .", add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        alone = detector.model.bert._model[0](input_ids=ids).last_hidden_state
    span = detector.spans[3].nonzero().flatten()
    torch.testing.assert_close(seen[0][1, span], alone[0, :2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("profile", ["params.yaml", "infra/params/paper.yaml", "infra/params/smoke.yaml"])
def test_every_profile_has_options_that_lack_nothing_but_the_weights(profile: str) -> None:
    file = Path(__file__).parents[2] / profile
    options = yaml.safe_load(file.read_text(encoding="utf-8"))["annotators"]["grounded_sam"]
    with pytest.raises(DataError, match=r"no such file. To fix: put groundingdino_swint_ogc\.pth from release"):
        base.load("grounded_sam", None, {**options, "dino_checkpoint": "nowhere.pth"})
