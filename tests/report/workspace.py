"""A small finished pipeline in one folder: everything that make_report reads, written by the stages' own writers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from one_frame import NO_BOXES, make_frame
from transformers import Qwen2_5_VLConfig

from stages.core.io import write_json, write_parquet
from stages.core.params import Params, TrainPruner
from stages.efficiency.flops import account
from stages.masks import mask_set
from stages.masks.base import Mask
from stages.plan_routes import throughput
from stages.planning.scoring import AUCS, RECALLS, SAMPLE_COLUMNS, mean_shares, totals
from stages.pruning import base as pruning
from stages.scenes.base import Camera, Frame
from stages.scenes.nuscenes import Scenes
from stages.training.evaluation import MEASURED, RANKING, final_figures, write_history
from stages.vla.plans import Plan, pace_path, plans_path, write_plans

FRAMES, GRID = 12, (7, 12)
BLIND = ("constant_velocity", "recorded_future", "blind_floor")
CAMERAS = ("CAM_FRONT", "CAM_BACK")
HOSTILE = "<script>alert('planned')</script><img src=x onerror=alert(1)>"
VISION = {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "fullatt_block_indexes": [0, 2]}
TEXT = {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
CONFIG = Qwen2_5_VLConfig(
    vision_config={**VISION, "out_hidden_size": 96}, text_config={**TEXT, "intermediate_size": 192, "vocab_size": 120}
)


class FakeScenes(Scenes):
    """Key frames on a straight road; stands in for the devkit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def split(self, name: str) -> list[str]:
        return ["scene-0", "scene-1", "scene-2"] if name == "world_val" else ["scene-2", "scene-9"]

    def tokens(self, split: str) -> list[str]:
        return [f"sample-{i:02d}" for i in range(FRAMES)]

    def frame(self, token: str) -> Frame:
        i = int(token[-2:])
        files = {channel: self.folder / f"{channel}.png" for channel in CAMERAS}
        cameras = {n: Camera(n, f"{token}-{n}", file, (336, 196), np.eye(3), np.eye(4)) for n, file in files.items()}
        ahead = np.arange(1, 7)[:, None] * np.array([[2.0 + 0.2 * i, 0.1]])
        parked = replace(
            NO_BOXES,
            **{"categories": ("vehicle.car",), "instances": ("car",), "centers_m": np.array([[15.0, 3.0, 0.0]])},
            **{"sizes_wlh_m": np.array([[1.8, 4.5, 1.5]]), "rotations_wxyz": np.array([[1.0, 0, 0, 0]])},
        )
        frame = make_frame(cameras["CAM_FRONT"].path, token)
        return replace(frame, scene=f"scene-{i // 4}", cameras=cameras, future_ego_m=ahead, boxes=parked)

    def drivable_mask(self, frame: Frame) -> np.ndarray:
        return np.broadcast_to((np.abs(np.arange(1000)[:, None] - 480) < 60), (1000, 1000))


def write_workspace(folder: Path, params: Params) -> FakeScenes:
    """Fill `folder`, which must be the working directory."""
    scenes, rng = FakeScenes(folder), np.random.default_rng(0)
    for channel in CAMERAS:
        noise = rng.integers(0, 60, (196, 336, 3)) + np.linspace(60, 180, 196)[:, None, None]
        cv2.imwrite(str(folder / f"{channel}.png"), noise.astype(np.uint8))
    _write_masks(scenes)
    pruners = [*params.grid.pruners, *params.grid.trained]
    for name in pruners:
        _write_profile(name, params)
    for name in params.grid.names:
        percents = params.grid.ratios_of(name)
        samples = {percent: _samples(name, percent, rng) for percent in percents}
        _write_samples(name, samples)
        rows = [_score(name, percent, samples[percent]) for percent in percents]
        about = {"method": name, "protocol": "omnidrive", "split": "world_val", "unparsed": "zeros"}
        write_json(Path(f"results/scores/{name}.json"), {**about, "rows": rows})
        for percent in percents:
            write_plans(plans_path(name, percent), [_plan(scenes.frame(t), percent, rng) for t in scenes.tokens("")])
        if name not in params.grid.bounds:
            _write_pace(name, len(percents))
    for i, name in enumerate(params.grid.trained):
        write_training(name, params.training(name), 0.95 - i / 100, rng)
    _write_driver()
    return scenes


def _write_masks(scenes: FakeScenes) -> None:
    foreground = np.zeros((196, 336), bool)
    foreground[100:, 60:280] = True
    mask = Mask(foreground, ("road",), np.array([[60, 100, 280, 196]], np.float32))
    names = [f"{token}-{channel}" for token in scenes.tokens("") for channel in CAMERAS]
    rows = mask_set.write_shard(Path("work/shards/scene-000.tar"), [(name, mask) for name in names])
    about = {"scene": "scene", "split": "world_val", "shard": "shards/scene-000.tar"}
    full = [{**row, **about, "sample": row["token"][:9], "camera": row["token"][10:]} for row in rows]
    mask_set.publish(Path("work"), Path("data/masks"), full, {})
    iou = {"iou": 0.91, "low": 0.88, "high": 0.94, "images": 24, "scenes": 3, "both_px": 91000, "either_px": 100000}
    both = {"class": {"road": iou, "mean": {"iou": 0.7, "images": 24}}, "camera": {"CAM_FRONT": iou}}
    write_json(Path("metrics/masks.json"), {"iou": both})


def _write_profile(name: str, params: Params) -> None:
    percents = [] if name == "none" else list(params.grid.percents)
    table = account(CONFIG, GRID, 20, percents, pruning.load("row_prior", {}))
    checked = {"llm_linears": {"closed_form": 10, "counted": 10, "difference": 0.0}}
    write_json(
        Path(f"results/efficiency/{name}.json"),
        {"paper": {**table, "checked": checked}, "paper_7b": table, "driver": table},
    )
    variants = ["0", *map(str, percents), "again"]
    timing = {"median_ms": 4.0, "p10_ms": 3.9, "p90_ms": 4.4, "n": 15}
    speedup = {"ratio": 1.25, "low": 1.2, "high": 1.31, "differs": True}
    speedups = dict.fromkeys(variants[1:], speedup)
    phase = {"timings": dict.fromkeys(variants, timing), "speedups": speedups, "aa_spread": 1.02}
    record = {
        "driver": "toy",
        "answer_tokens": 16,
        "machine": {"cpu": "two cores", "threads": 1, "torch": "2.15"},
        "clocks": {"before": {"load_1_min": 0.5}, "after": {"load_1_min": 1.04}},
        "ceilings": {"dtype": "float32", "matmul_flops_per_s": 4e10, "copy_bytes_per_s": 1.2e10},
        "of_ceiling": {"0": {"vision_flops": 0.32, "prefill_flops": 0.54, "decode_flops": 0.03, "decode_bytes": 0.18}},
        "phases": dict.fromkeys(("vision", "choose", "prefill", "decode", "end_to_end"), phase),
    }
    write_json(Path(f"results/latency/{name}.json"), record)


def _write_pace(name: str, ratios: int) -> None:
    note = {"tokens": ["sample"] * 12, "seconds": 4.0, "counts": {"images_encoded": 12, "scorings": 1}}
    pace = throughput([{**note, "questions": {}, "remarks": {}}], ratios, 1)
    write_json(pace_path(name), {"row": name, "driver": "toy", **pace})


def _samples(name: str, percent: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Samples of 12 frames; the foreground kept, and for all but divprune its AUC, is about 1 - percent / 200."""
    seen = () if name in BLIND else RECALLS if name == "divprune" else (*RECALLS, *AUCS)
    return [
        {
            "pruned_percent": percent,
            "token": f"sample-{i:02d}",
            "scene": f"scene-{i // 4}",
            "event": ("curve", "lead", "red")[i % 3],
            **{f"l2_m_{s}s": float(s * rng.uniform(0.4, 0.6 + percent / 100)) for s in (1, 2, 3)},
            **{f"l2_at_cm_{s}s": float(100 * s * rng.uniform(0.4, 0.6 + percent / 100)) for s in (1, 2, 3)},
            **{
                f"{event}_{s}s": bool(rng.random() < 0.1 * s)
                for event in ("collision", "intersection")
                for s in (1, 2, 3)
            },
            **{share: float(1 - percent / 200 - 0.1 * rng.random()) for share in seen},
        }
        for i in range(FRAMES)
    ]


def _write_samples(name: str, samples: dict[int, list[dict[str, Any]]]) -> None:
    schema = pa.schema(list(SAMPLE_COLUMNS.items()))
    table = pa.Table.from_pylist([row for rows in samples.values() for row in rows], schema=schema)
    write_parquet(Path(f"results/scores/{name}.parquet"), table)


def _score(name: str, percent: int, samples: list[dict[str, Any]]) -> dict[str, Any]:
    N = 0 if name in BLIND else GRID[0] * GRID[1]
    counts = {"pruned_percent": percent, "tokens_kept": N * (100 - percent) // 100, "tokens_total": N, "unparsed": 0}
    return {**counts, **totals(samples, 50, 0), **mean_shares(samples, 50, 0)}


def _plan(frame: Frame, percent: int, rng: np.random.Generator) -> Plan:
    N = GRID[0] * GRID[1]
    K = N * (100 - percent) // 100
    kept = np.sort(rng.permutation(N)[:K])
    waypoints_m = frame.future_ego_m + rng.normal(0, 0.01 * percent, (6, 2))
    return Plan(frame.token, waypoints_m, HOSTILE, True, kept, K, N, GRID)


def _write_driver() -> None:
    difference = {"n": 40, "l2_m": 1.5, "difference_m": 0.5, "difference_low": 0.4, "difference_high": 0.6}
    sees = {name: {"n": 40, "l2_m": 1.5, "l2_low": 1.4, "l2_high": 1.6} for name in ("none", "blind_floor")}
    extent = {"scenes": 30, "images": 11520, "samples": 28800}
    driver = {
        "sees": sees,
        "events": {"red": difference},
        "pruned": {"inverse_50": difference, "oracle_50": difference},
    }
    write_json(Path("metrics/train_driver.json"), {**driver, "trained": {"tower": extent, "language": extent}})


IMAGES = 2


def write_training(name: str, options: TrainPruner, auc: float, rng: np.random.Generator) -> None:
    """History of 40 steps, pictures and figures of `name`, whose AUC ends at `auc`."""
    folder = Path("results/training") / name
    rows = [row for step in range(1, 41) for row in _rows(step, auc, painted_back=options.adversarial)]
    write_history(folder / "history.csv", rows)
    write_json(
        Path(f"metrics/train_pruner/{name}.json"), final_figures(rows, 40) | {"images": 120, "held_out_images": 24}
    )
    pixels = options.objective == "reconstruction"
    for step in (0, 40):
        for kind, high in (("kept_tokens", 4), *([("reconstruction", 5)] if pixels else [])):
            _noise(folder / "epochs" / f"{kind}_{step:07d}.png", high, IMAGES, rng)


def _rows(step: int, auc: float, *, painted_back: bool) -> list[dict[str, float | str | None]]:
    measured = dict.fromkeys(MEASURED, 0.1 + 0.3 / step) | ({} if painted_back else {"loss_back": None})
    ranked = dict.fromkeys(RANKING, auc - 0.1 / step) | {"auc_row_prior": 0.99}
    train = {"step": step, "split": "train", **measured}
    return [train, {"step": step, "split": "held_out", **measured, **ranked}] if step % 10 == 0 else [train]


def _noise(path: Path, high: int, wide: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rng.integers(0, 255, (28 * high, 48 * wide, 3), np.uint8))
