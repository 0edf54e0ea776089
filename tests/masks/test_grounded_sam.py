"""Grounded-SAM with small models and random weights, behind official-looking checkpoints: whole; then its parts, the
models against what the packages' own demos do with one image; GPUs, counted by a fake.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from one_frame import make_frame
from PIL import Image
from torch import Tensor, nn

from stages.core import io
from stages.core.errors import DataError, MachineError, ParamsError
from stages.masks import base, grounding
from stages.masks.base import CLASSES, Mask
from stages.masks.grounded_sam import Annotator, chosen_device, name_boxes, read_batch, select
from stages.masks.grounding import class_maps, fill, for_dino, phrase_spans, read_weights, require
from stages.scenes.base import Camera, Frame

PHRASES = {"road": ["road"], "vehicle": ["car", "bus"], "sign": ["traffic light"]}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
# Positions of words are 256 wide in the package's code, so `hidden_dim` cannot be less.
SMALLER = "enc_layers = 1\ndec_layers = 2\ndim_feedforward = 64\nnum_queries = 40\n"


def make_small(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """From here on the sizes swin_t and vit_b are small ones; the text encoder that goes with them is returned."""
    with grounding.known_warnings():
        import groundingdino.config
        from groundingdino.models.GroundingDINO.backbone import backbone
        from segment_anything import sam_model_registry

    official = Path(groundingdino.config.__file__).parent / grounding.DINO_CONFIGS["swin_t"]
    config = folder / "small_dino_config.py"
    config.write_text(official.read_text() + "\n" + SMALLER)
    monkeypatch.setitem(grounding.DINO_CONFIGS, "swin_t", str(config))
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
    finder, outliner = grounding.build_dino("swin_t", text_encoder), grounding.build_sam("vit_b")
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
    monkeypatch.setattr(grounding, "DINO_SIDES_PX", (80, 133))
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
        ("phrases", {"road": "road"}, "a list of words for each class .* as phrases"),
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

    monkeypatch.setattr(annotator._models[1], "features", full)
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


CPU = torch.device("cpu")


@pytest.fixture
def smooth() -> np.ndarray:
    """(90, 160, 3) RGB, smooth: the packages round after resizing, we do not."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((160, 90), Image.Resampling.BICUBIC))


def test_images_reach_grounding_dino_as_its_own_transforms_make_them(smooth: np.ndarray) -> None:
    with grounding.known_warnings():
        import groundingdino.datasets.transforms as T
    steps = [
        T.RandomResize([800], max_size=1333),
        T.ToTensor(),
        T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    reference, _ = T.Compose(steps)(Image.fromarray(smooth), None)
    ours = for_dino(torch.from_numpy(smooth.copy()).permute(2, 0, 1)[None])[0]
    assert ours.shape == reference.shape == (3, 750, 1333)
    assert (ours - reference).abs().max() < 1.1 / 255 / 0.224  # one step of eight bits


def test_masks_are_those_of_the_predictor_of_sam(
    smooth: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segment_anything import SamPredictor

    make_small(monkeypatch, tmp_path)
    torch.manual_seed(1)
    model, boxes = grounding.build_sam("vit_b"), torch.tensor([[10.0, 10, 60, 60], [80, 20, 150, 80], [0, 0, 160, 90]])
    predictor = SamPredictor(model)
    predictor.set_image(smooth)
    prompts = predictor.transform.apply_boxes_torch(boxes, (90, 160))
    reference, _, _ = predictor.predict_torch(None, None, prompts, multimask_output=False)
    segmenter = grounding.Segmenter(model, CPU, bf16=False)
    with torch.inference_mode():
        features = segmenter.features(torch.from_numpy(smooth.copy()).permute(2, 0, 1)[None])
        masks = segmenter.masks(features, boxes, (90, 160))
    assert 0 < masks.float().mean() < 1
    assert (masks & reference[:, 0]).sum() / (masks | reference[:, 0]).sum() >= 0.99


def test_the_text_encoder_gives_what_bert_gives_for_each_phrase_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words see the words of their own phrase only, at places counted from its start."""
    model = grounding.build_dino("swin_t", make_small(monkeypatch, tmp_path))
    detector = grounding.Detector(model, [name for some in PHRASES.values() for name in some], CPU, bf16=False)
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
IMAGE_PX = (200, 100)


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
    options = object.__new__(Annotator)  # the defaults, without a look at the files of the models
    vars(options).update(largest_box_shares={"vehicle": 0.5}, most_boxes=most)
    shares = torch.tensor(boxes) / torch.tensor([*IMAGE_PX, *IMAGE_PX])
    return select(torch.cat(words), shares, SPANS, torch.tensor([0, 1, 1]), options, IMAGE_PX)[0]


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


SOURCE = "official.pth from its repository"


def write(path: Path, content: object) -> str:
    torch.save(content, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
