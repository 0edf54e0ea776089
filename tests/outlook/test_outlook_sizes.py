"""Work, memory and disk in closed form, held against numbers by hand and against the real modules."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.core.journal.graph import read_graph
from stages.core.params import Params, read_params
from stages.outlook.disk import outs_bytes, scratch_bytes
from stages.outlook.fitting import size
from stages.outlook.memory import ADAM_BYTES, memory_bytes, training_bytes
from stages.outlook.shape import driver_parameters, driver_shape, driver_to_come, grid_of, layer_of, trained_parameters
from stages.outlook.work import work_of

ROOT = Path(__file__).parents[2]
FRAMES: dict[str, int | None] = {"train": 480, "eval": 160}


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def of(profile: str, name: str) -> Any:
    params = read_params(ROOT / profile)
    return read_graph(ROOT)[name], params, driver_shape(params.vla)


def trained(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"train_pruner": params.train_pruner.model_copy(update=changes)})


def test_images_and_key_frames_are_counted() -> None:
    masks, params, shape = of("params.yaml", "generate_masks")
    work = work_of(masks, params, FRAMES, shape)
    assert work is not None
    assert (work.amount, work.unit) == (3840, "images by nuscenes_geometry")
    scored, params, shape = of("params.yaml", "score_plans@fastv")
    work = work_of(scored, params, FRAMES, shape)
    assert work is not None
    assert work.amount == 160 * 3


def test_twice_the_steps_are_twice_the_learning_and_the_same_encoding() -> None:
    stage, params, shape = of("params.yaml", "train_pruner@recon")
    works = [work_of(stage, trained(params, steps=steps), FRAMES, shape) for steps in (240, 480, 720)]
    once, twice, thrice = (work.amount for work in works if work)
    assert twice - once == pytest.approx(thrice - twice)
    assert 1.5 < twice / once < 2


def test_every_stage_of_the_graph_has_a_work() -> None:
    params = read_params(ROOT / "params.yaml")
    shape = driver_shape(params.vla)
    graph = read_graph(ROOT)
    assert not [name for name, stage in graph.items() if work_of(stage, params, FRAMES, shape) is None]


def test_what_cannot_be_counted_has_none() -> None:
    stage, params, shape = of("params.yaml", "generate_masks")
    assert work_of(stage, params, {"train": None, "eval": 160}, shape) is None


@pytest.mark.parametrize("changes", [{}, {"decoder_width": 96, "decoder_layers": 1}, {"objective": "mask_prediction"}])
def test_parameters_are_those_of_the_real_modules(changes: dict[str, Any]) -> None:
    from stages.training.decoder import PixelDecoder, narrowed

    _, params, shape = of("params.yaml", "train_pruner@recon")
    options = params.train_pruner.model_copy(update=changes)
    counted = trained_parameters(shape, options) - shape.pruner_parameters
    if options.objective == "mask_prediction":
        assert counted == 0
        return
    layer = replace(layer_of(shape), mrope_section=(2, 11, 11))
    inner = narrowed(layer, options.decoder_width)
    decoder = PixelDecoder(layer.width, inner, options.decoder_layers, options.pixels_per_token)
    assert counted == pytest.approx(sum(p.numel() for p in decoder.parameters()), rel=0.01)


def test_the_small_driver_has_as_many_parameters_as_its_file_holds() -> None:
    shape = driver_shape(read_params(ROOT / "params.yaml").vla)
    stored = sum(path.stat().st_size for path in (ROOT / "models/driver").glob("*.safetensors")) / 4
    assert driver_parameters(shape) == pytest.approx(stored, rel=0.2)


def test_the_papers_driver_is_of_three_billion_parameters() -> None:
    shape = driver_shape(read_params(ROOT / "infra/params/paper.yaml").vla)
    assert driver_parameters(shape) / 1e9 == pytest.approx(3.75, rel=0.05)
    assert grid_of((1596, 1596), shape.vision) == (57, 57)


def test_training_holds_sixteen_bytes_of_each_weight_and_a_batch() -> None:
    _, params, shape = of("infra/params/paper.yaml", "train_pruner@recon")
    options = params.train_pruner
    one, two = (training_bytes(options.model_copy(update={"batch_size": b}), shape, 0, 1) for b in (16, 32))
    fixed = 2 * one - two
    states = ADAM_BYTES * trained_parameters(shape, options)
    assert states < fixed < states + 2e9  # and the frozen tower in bf16
    assert training_bytes(options, shape, 0, 2) == pytest.approx(one)  # two processes share a batch


def test_more_images_than_the_memory_for_them_are_not_kept() -> None:
    stage, params, shape = of("params.yaml", "train_pruner@recon")
    few, many = (memory_bytes(stage, params, {"train": count, "eval": 1}, shape, 1) for count in (480, 10**6))
    assert few > many


def test_tokens_on_the_disk_are_images_times_tokens_times_width() -> None:
    """2,880 images of 12 x 7 tokens, 192 wide, in fp32."""
    stage, params, shape = of("params.yaml", "train_pruner@recon")
    tokens = 2880 * 84 * 192 * 4
    without = scratch_bytes(stage, trained(params, token_cache=None), FRAMES, shape)
    assert scratch_bytes(stage, params, FRAMES, shape) - without == tokens
    assert outs_bytes(1000, 1.5) == 3000


def test_sizes_have_the_unit_that_fits() -> None:
    assert [size(count) for count in (2e3, 25.3e9, 1.5e12)] == ["2 kB", "25.3 GB", "1.5 TB"]


def test_a_driver_that_is_to_be_made_has_the_shape_that_the_params_say() -> None:
    here, smoke = (read_params(ROOT / path) for path in ("params.yaml", "infra/params/smoke.yaml"))
    assert driver_to_come(here.train_driver) == driver_shape(here.vla)  # the one in models/driver is its work
    to_come = driver_to_come(smoke.train_driver)
    assert (to_come.language.width, to_come.language.heads) == (64, 2)
    # 32 is one head of it, but no whole number of the present driver's heads of 48
    assert trained_parameters(to_come, smoke.training("recon")) > to_come.pruner_parameters
