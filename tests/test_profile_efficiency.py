"""The stage on a driver of a few thousand weights: what it writes, and that counts are the same bytes every time."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from one_frame import make_frame
from tiny import make_tiny_model

from stages import profile_efficiency
from stages.core.params import Params, read_params
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes
from stages.toy_driver.checkpoint import publish

pytestmark = pytest.mark.process

CHECKOUT = Path(__file__).parents[1]


class OneFrame(Scenes):
    """A data set of one key frame."""

    def __init__(self, image: Path) -> None:
        self.image = image

    def tokens(self, split: str) -> list[str]:
        return ["sample-0"]

    def frame(self, token: str) -> Frame:
        return make_frame(self.image, token)


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Params]:
    """Three methods on a tiny driver, in a working directory of its own."""
    folder = tmp_path_factory.mktemp("profile")
    publish(make_tiny_model(), folder / "driver", (84, 56), {})
    (folder / "infra").symlink_to(CHECKOUT / "infra")
    image = folder / "front.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (56, 84, 3), np.uint8))
    whole = read_params(CHECKOUT / "params.yaml")
    few = whole.profile_efficiency.model_copy(update={"pairs": 2, "answer_tokens": 3, "grid": (12, 12)})
    grid = whole.grid.model_copy(update={"pruners": ["none", "row_prior", "divprune"], "trained": []})
    vla = whole.vla.model_copy(update={"checkpoint": "driver", "size_px": (84, 56)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(profile_efficiency, "open_scenes", lambda root, version: OneFrame(image))
        yield whole.model_copy(update={"profile_efficiency": few, "vla": vla, "grid": grid})


@pytest.fixture(scope="module")
def written(params: Params) -> dict[str, bytes]:
    """The bytes of every file that the stage writes, by path."""
    profile_efficiency.main(params)
    return read_outs()


def read_outs() -> dict[str, bytes]:
    paths = [Path("metrics/efficiency.json"), *Path("results").rglob("*.json")]
    return {str(path).removesuffix(".json"): path.read_bytes() for path in paths}


def test_a_pruner_gets_a_row_for_each_ratio_at_the_papers_shapes_and_at_the_drivers(written):
    counts = json.loads(written["results/efficiency/divprune"])
    assert [row["tokens_kept"] for row in counts["paper"]["rows"]] == [144, 108, 72, 36]
    assert [row["tokens_kept"] for row in counts["driver"]["rows"]] == [6, 4, 3, 1]
    assert max(abs(part["difference"]) for part in counts["paper"]["checked"].values()) < 1e-3
    assert counts["paper"]["rows"][3]["flops"]["pruner"] == 2 * 144**2 * 2048 + 36 * 144
    by_ratio = [row["choosing"] for row in counts["paper"]["rows"]]
    assert [row["counted"] for row in by_ratio] == [0, *[2 * 144**2 * 2048] * 3]
    assert by_ratio[3]["closed_form"] == counts["paper"]["rows"][3]["flops"]["pruner"]
    larger = counts["paper_7b"]["rows"]
    assert larger[3]["flops"]["llm"] / counts["paper"]["rows"][3]["flops"]["llm"] > 2
    choosing = counts["driver"]["choosing"]
    assert choosing["counted"] == 2 * 6 * 6 * 24  # the similarity matrix; the running minima are no products
    assert choosing["closed_form"] == choosing["counted"] + 1 * 6


def test_the_unpruned_baseline_has_one_row_and_no_speedup_but_its_own_noise(written):
    assert len(json.loads(written["results/efficiency/none"])["paper"]["rows"]) == 1
    phases = json.loads(written["results/latency/none"])["phases"]
    assert set(phases) == {"preprocess", "vision", "choose", "prefill", "decode", "end_to_end"}
    assert {tuple(part["speedups"]) for part in phases.values()} == {("again",)}


def test_counts_are_the_same_bytes_twice(params, written):
    grid = params.grid.model_copy(update={"pruners": ["row_prior"]})
    profile_efficiency.main(params.model_copy(update={"grid": grid}))
    again = read_outs()
    assert again["results/efficiency/row_prior"] == written["results/efficiency/row_prior"]
    metrics = [json.loads(outs["metrics/efficiency"]) for outs in (written, again)]
    assert list(metrics[0]) == ["divprune", "none", "row_prior"]
    assert metrics[0]["row_prior"] == metrics[1]["row_prior"]


def test_latencies_of_all_methods_share_baseline_and_machine(params, written):
    latency, other = (json.loads(written[f"results/latency/{name}"]) for name in ("row_prior", "divprune"))
    baseline, theirs = (one["phases"]["prefill"] for one in (latency, other))
    assert all(baseline["timings"][name] == theirs["timings"][name] for name in ("0", "again"))
    assert baseline["aa_spread"] == theirs["aa_spread"]
    assert latency["machine"]["threads"] == params.profile_efficiency.threads
    assert set(latency["phases"]["prefill"]["speedups"]) == {"25", "50", "75", "again"}
    decode = latency["phases"]["decode"]["timings"]["75"]
    assert decode["n"] == 2
    assert decode["per_token_ms"] == decode["median_ms"] / 2  # of three answer tokens the first comes with the prefill
    assert latency["setting"] == {
        "attention": "sdpa", "cache": "DynamicCache", "dtype": "float32", "device": "cpu", "batch": 1,
        "text_tokens": latency["setting"]["text_tokens"], "answer_tokens": 3,
    }  # fmt: skip
    assert latency["ceilings"]["matmul_flops_per_s"] > 0
    assert set(latency["of_ceiling"]) == {"0", "25", "50", "75"}
