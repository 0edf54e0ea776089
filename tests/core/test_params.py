"""params.yaml: the default is accepted, and faults are refused with the key."""

from pathlib import Path

import pytest
import yaml

from stages.core.errors import ParamsError
from stages.core.params import flat, read_params

ROOT = Path(__file__).parents[2]
FILE = ROOT / "params.yaml"


def changed(tmp_path: Path, path: str, value: object) -> Path:
    """The default file with one value replaced or added."""
    tree = yaml.safe_load(FILE.read_text())
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node[name]
    node[last] = value
    target = tmp_path / "params.yaml"
    target.write_text(yaml.safe_dump(tree))
    return target


def test_the_default_file_is_accepted() -> None:
    params = read_params(FILE)
    assert params.grid.percents == [25, 50, 75]
    assert params.vla.size_px == (336, 196)


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"train_pruner.ssim_weigth.*did you mean 'ssim_weight'"):
        read_params(changed(tmp_path, "train_pruner.ssim_weigth", 0.2))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_pruner.ssim_weight", 1.2),
        ("train_pruner.steps", "300"),
        ("train_pruner.steps", 0),
        ("train_pruner.zero_stage", 3),
        ("train_pruner.bf16", "no"),
        ("grid.percents", [25, 100]),
        ("grid.percents", [0]),
        ("grid.pruners", ["none; rm -rf /"]),
        ("grid.references", ["oracel"]),
        ("vla.size_px", [336]),
        ("vla.fit", "crop"),
        ("scenes.root", None),
        ("make_world.samples_per_scene", 3),
    ],
)
def test_a_value_of_a_wrong_type_or_out_of_bounds_is_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ParamsError) as refusal:
        read_params(changed(tmp_path, key, value))
    assert key in refusal.value.expected
    assert "edit" in refusal.value.fix


def test_options_of_a_plug_in_may_be_nested(tmp_path: Path) -> None:
    options = {"phrases": {"road": ["road", "lane"], "sign": []}, "thresholds": [0.3, 1, None, True]}
    read = read_params(changed(tmp_path, "annotators.nuscenes_geometry", options))
    assert read.annotators["nuscenes_geometry"] == options


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tree = yaml.safe_load(FILE.read_text())
    del tree["train_pruner"]["alpha"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError, match=r"train_pruner.alpha.*got nothing"):
        read_params(tmp_path / "params.yaml")


def test_a_pruner_of_the_grid_needs_its_options(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="add `fastw"):
        read_params(changed(tmp_path, "grid.pruners", ["none", "fastw"]))


def test_an_oracle_of_the_grid_needs_its_options(tmp_path: Path) -> None:
    pruners = yaml.safe_load(FILE.read_text())["pruners"]
    del pruners["oracle"]
    with pytest.raises(ParamsError, match="add `oracle"):
        read_params(changed(tmp_path, "pruners", pruners))


@pytest.mark.parametrize("file", ["params.yaml", "infra/params/smoke.yaml"])
def test_oracles_read_the_truth_of_the_data_set_as_the_driver_sees_it(file: str) -> None:
    params = read_params(ROOT / file)
    for name in ("oracle", "inverse"):
        assert params.pruners[name] == {"oracle_root": params.scenes.oracle_root, "fit": params.vla.fit}


def test_each_row_has_its_list_and_its_ratios() -> None:
    grid = read_params(FILE).grid
    stages = [(grid.plan_stage(name), len(grid.ratios_of(name))) for name in grid.names]
    assert stages[:2] == [("plan_routes@none", 1), ("plan_routes@random_keep", 3)]
    assert ("plan_trained@recon", 3) in stages
    assert ("plan_references@oracle", 3) in stages
    assert ("plan_references@black_image", 1) in stages
    assert stages[-1] == ("score_plans", 1)


@pytest.mark.parametrize("text", ["a: [1", "grid: 3", "[]", "", "\x00"])
def test_what_is_no_tree_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(("key", "value"), [("vla.fit", "pad"), ("scenes.oracle_root", None)])
def test_an_oracle_that_would_read_another_truth_is_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ParamsError, match=r"pruners\.oracle.*take oracle out of grid\.references"):
        read_params(changed(tmp_path, key, value))


def test_a_pruner_that_would_never_learn_is_refused(tmp_path: Path) -> None:
    tree = yaml.safe_load(FILE.read_text())
    tree["train_pruner"] |= {"steps": 50, "decoder_first_steps": 49}
    tree["trained"]["mask_prediction"]["steps"] = 10  # it has no decoder to wait for
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    read_params(tmp_path / "params.yaml")
    tree["train_pruner"]["decoder_first_steps"] = 50
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError, match="decoder_first_steps in .* below the 50 steps"):
        read_params(tmp_path / "params.yaml")


def test_overlays_are_of_methods_of_the_grid_that_choose(tmp_path: Path) -> None:
    for name in ("visionzip", "none"):
        with pytest.raises(ParamsError, match=f"overlay_methods.*{name}"):
            read_params(changed(tmp_path, "make_report.overlay_methods", [name]))


def test_params_are_recorded_as_dotted_names_and_text() -> None:
    assert flat("vla", {"name": "toy", "size_px": [336, 196], "vision": {"depth": 3}}) == {
        "vla.name": "toy",
        "vla.size_px": "[336, 196]",
        "vla.vision.depth": "3",
    }
