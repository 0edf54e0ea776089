"""Parts of Grounded-SAM: the models against what the packages' own demos do with one image, on small models with random
weights; the choice among boxes; class maps; checkpoints; images; GPUs, counted by a fake.
"""

import hashlib
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_grounding import PHRASES, make_small
from torch import Tensor, nn

from stages.core.errors import DataError, MachineError, ParamsError
from stages.masks import base
from stages.masks.grounding import models
from stages.masks.grounding.models import class_maps, dino_size_px, fill, for_dino, phrase_spans, read_weights, require
from stages.masks.grounding.pipeline import Rules, chosen_device, name_boxes, read_batch, select
from stages.scenes.base import Camera

CPU = torch.device("cpu")


@pytest.fixture
def photo() -> np.ndarray:
    """(90, 160, 3) RGB, smooth: the packages round after resizing, we do not."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((160, 90), Image.Resampling.BICUBIC))


def test_images_reach_grounding_dino_as_its_own_transforms_make_them(photo: np.ndarray) -> None:
    with models.known_warnings():
        import groundingdino.datasets.transforms as T
    steps = [
        T.RandomResize([800], max_size=1333),
        T.ToTensor(),
        T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    reference, _ = T.Compose(steps)(Image.fromarray(photo), None)
    ours = for_dino(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None])[0]
    assert ours.shape == reference.shape == (3, 750, 1333)
    assert (ours - reference).abs().max() < 1.1 / 255 / 0.224  # one step of eight bits


def test_masks_are_those_of_the_predictor_of_sam(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segment_anything import SamPredictor

    make_small(monkeypatch, tmp_path)
    torch.manual_seed(1)
    model, boxes = models.build_sam("vit_b"), torch.tensor([[10.0, 10, 60, 60], [80, 20, 150, 80], [0, 0, 160, 90]])
    predictor = SamPredictor(model)
    predictor.set_image(photo)
    prompts = predictor.transform.apply_boxes_torch(boxes, (90, 160))
    reference, _, _ = predictor.predict_torch(None, None, prompts, multimask_output=False)
    segmenter = models.Segmenter(model, CPU, bf16=False)
    with torch.inference_mode():
        features = segmenter.features(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None])
        masks = segmenter.masks(features, boxes, (90, 160))
    assert 0 < masks.float().mean() < 1
    assert (masks & reference[:, 0]).sum() / (masks | reference[:, 0]).sum() >= 0.99


def test_the_text_encoder_gives_what_bert_gives_for_each_phrase_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words see the words of their own phrase only, at places counted from its start."""
    model = models.build_dino("swin_t", make_small(monkeypatch, tmp_path))
    detector = models.Detector(model, [name for some in PHRASES.values() for name in some], CPU, bf16=False)
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


# [CLS] road . traffic light . car . [SEP]: separators are 101, 102 and 5
IDS = torch.tensor([101, 7, 5, 8, 9, 5, 10, 5, 102])
SPANS = phrase_spans(IDS, [101, 102, 5])
SIZE_PX = (200, 100)


def scores(**tokens: float) -> Tensor:
    """One query: scores of the words that are named, 0 of the others."""
    row = torch.zeros(1, len(IDS))
    for name, value in tokens.items():
        row[0, {"cls": 0, "road": 1, "traffic": 3, "light": 4, "car": 6}[name]] = value
    return row


def test_the_phrase_with_the_highest_mean_names_a_box_and_its_best_token_scores_it() -> None:
    phrase, score = name_boxes(scores(traffic=0.9, light=0.1, car=0.6), SPANS, 0.25)
    assert phrase.tolist() == [2]  # 0.6 is more than (0.9 + 0.1) / 2
    assert score.tolist() == pytest.approx([0.9])


def test_a_phrase_without_a_token_above_the_text_threshold_cannot_name_a_box() -> None:
    tokens = scores(traffic=0.5, light=0.0, car=0.26)
    assert name_boxes(tokens, SPANS, 0.25)[0].tolist() == [2]
    assert name_boxes(tokens, SPANS, 0.3)[0].tolist() == [1]


def chosen_of(boxes: list[list[float]], words: list[Tensor], most: int = 100) -> Tensor:
    """Pixels of the boxes that are kept; road may fill the image, the others half of it."""
    rules = Rules(0.35, 0.25, 0.8, 4.0, (1.0, 0.5), most)
    shares = torch.tensor(boxes) / torch.tensor([*SIZE_PX, *SIZE_PX])
    return select(torch.cat(words), shares, SPANS, torch.tensor([0, 1, 1]), rules, SIZE_PX).boxes_xyxy


def test_boxes_are_cut_at_the_edges_and_those_too_thin_or_too_large_for_their_class_dropped() -> None:
    boxes = [[100.0, 50, 200, 100], [100, 50, 200, 100], [50, 50, 3.9, 50], [0, 90, 40, 40]]
    words = [scores(road=0.9), scores(car=0.8), scores(road=0.7), scores(car=0.6)]
    torch.testing.assert_close(chosen_of(boxes, words), torch.tensor([[0.0, 0, 200, 100], [0, 70, 20, 100]]))


def test_only_boxes_of_one_class_suppress_each_other_and_the_best_comes_first() -> None:
    boxes = [[5.0, 5, 10, 10], [5, 4.5, 10, 9], [5, 4.5, 10, 9], [55, 55, 10, 10]]
    words = [scores(car=0.5), scores(car=0.6), scores(road=0.4), scores(car=0.9)]
    kept = torch.tensor([[50.0, 50, 60, 60], [0, 0, 10, 9], [0, 0, 10, 9]])  # 90 / 100 of the first is the second
    torch.testing.assert_close(chosen_of(boxes, words), kept)
    assert len(chosen_of(boxes, words, most=2)) == 2


def test_a_score_at_the_threshold_finds_nothing() -> None:
    assert chosen_of([[50.0, 50, 20, 20]], [scores(car=0.35)]).shape == (0, 4)


ROAD, VEHICLE, HUMAN, SIGN, BARRIER = range(5)


def strip(*columns: int) -> torch.Tensor:
    """A mask of one row and four columns."""
    mask = torch.zeros(1, 4, dtype=torch.bool)
    mask[0, list(columns)] = True
    return mask


def test_what_stands_on_the_road_is_in_front_of_it_whatever_the_order_of_the_boxes() -> None:
    masks = torch.stack([strip(1), strip(0, 1, 2, 3), strip(2), strip(1, 2, 3)])
    classes = torch.tensor([HUMAN, ROAD, BARRIER, VEHICLE])
    expected = [[ROAD + 1, HUMAN + 1, BARRIER + 1, VEHICLE + 1]]
    assert class_maps(masks, classes)[0].tolist() == expected
    assert class_maps(masks.flip(0), classes.flip(0))[0].tolist() == expected


def test_what_is_hidden_stays_in_its_layer() -> None:
    masks = torch.stack([strip(1), strip(0, 1, 2), strip(2)])
    seen, bits = class_maps(masks, torch.tensor([HUMAN, ROAD, ROAD]))
    assert bits.tolist() == [[1 << ROAD, 1 << ROAD | 1 << HUMAN, 1 << ROAD, 0]]
    assert torch.equal(seen > 0, masks.any(0))


def test_grounding_dino_reads_the_sizes_of_its_own_demo() -> None:
    assert dino_size_px((1600, 900)) == (1333, 750)
    assert dino_size_px((900, 1600)) == (750, 1333)
    assert dino_size_px((640, 480)) == (1066, 800)


SOURCE = "official.pth from its repository"


def write(path: Path, content: object) -> str:
    torch.save(content, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_tensors_of_a_checkpoint_lose_the_prefix_of_data_parallel_training(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "x.pth", {"model": {"module.a": torch.arange(3.0)}})
    assert read_weights(tmp_path / "x.pth", sha256, SOURCE)["a"].tolist() == [0, 1, 2]


def test_a_checkpoint_that_is_absent_unnamed_or_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with pytest.raises(DataError, match=r"checkpoint .*x\.pth, got no such file.*put official\.pth from its repo"):
        require(path, None, SOURCE, "sam_sha256")
    sha256 = write(path, {"a": torch.zeros(1)})
    with pytest.raises(ParamsError, match="sam_sha256, got null"):
        require(path, None, SOURCE, "sam_sha256")
    with pytest.raises(DataError, match=f"sha256 {'0' * 64}.*got {sha256}"):
        read_weights(path, "0" * 64, SOURCE)


@pytest.mark.parametrize("content", [{"a": nn.Linear(1, 1)}, [torch.zeros(1)]])
def test_what_is_more_than_tensors_is_refused(tmp_path: Path, content: object) -> None:
    sha256 = write(tmp_path / "x.pth", content)
    with pytest.raises(DataError, match="nothing but tensors"):
        read_weights(tmp_path / "x.pth", sha256, SOURCE)


def test_a_model_takes_exactly_its_own_weights() -> None:
    own = nn.Linear(2, 1).state_dict()
    filled = fill(nn.Linear(2, 1), own | {"label_enc.weight": torch.zeros(1)}, "it")
    assert torch.equal(filled.weight, own["weight"])  # type: ignore[arg-type]
    for weights in ({"weight": own["weight"]}, own | {"more": torch.zeros(1)}, own | {"weight": torch.zeros(1, 3)}):
        with pytest.raises(DataError, match="exactly the weights of it"):
            fill(nn.Linear(2, 1), weights, "it")


def camera(path: Path, size_px: tuple[int, int] = (64, 36)) -> Camera:
    return Camera("CAM_FRONT", f"token-{path.stem}", path, size_px, np.eye(3), np.eye(4))


def picture(path: Path) -> Path:
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8))
    return path


def test_a_whole_image_comes_as_red_green_blue(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    (image,) = read_batch([camera(path)])
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize(("suffix", "zeros"), [("jpg", 0), ("png", 0), ("jpg", 900)])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, suffix: str, zeros: int) -> None:
    path = picture(tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[:-900] + bytes(zeros))
    with pytest.raises(DataError, match=rf"a\.{suffix} .sample_data token-a"):
        read_batch([camera(path)])


def test_an_image_of_another_size_than_its_record_is_refused_and_so_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"128 x 72 in .*a\.jpg .sample_data token-a.*got one of 64 x 36"):
        read_batch([camera(picture(tmp_path / "a.jpg"), (128, 72))])
    with pytest.raises(DataError, match="sample_data token-b"):
        read_batch([camera(tmp_path / "b.jpg")])


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int, process: str = "MainProcess") -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(name=process))


@pytest.mark.parametrize(
    ("process", "number"),
    [("MainProcess", 0), ("SpawnProcess-2", 1), ("SpawnProcess-5", 0)],
)
def test_each_local_process_takes_another_gpu(monkeypatch: pytest.MonkeyPatch, process: str, number: int) -> None:
    pretend(monkeypatch, 4, process)
    assert chosen_device("auto") == chosen_device("cuda") == torch.device("cuda", number)
    assert chosen_device("cuda:3") == torch.device("cuda", 3)
    assert chosen_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, device: str, count: int) -> None:
    pretend(monkeypatch, count)
    with pytest.raises(MachineError, match=f"{count} GPUs that torch sees"):
        chosen_device(device)
