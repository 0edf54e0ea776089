"""Teach the small driver: a vision tower first, then frozen, a language model on top -> models/driver.

Inputs: scenes drawn on the fly from seeds that the data set does not use. Outs: models/driver (Hugging Face layout,
git-tracked, so that `dvc repro` skips this stage until its code or params change), metrics/train_driver.json.

    python -m stages.train_driver
"""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from stages.backbone.qwen import build_model, load_tokenizer
from stages.core import tracking
from stages.core.command import run
from stages.core.errors import ParamsError
from stages.core.io import code_hashes, fingerprint, sha256, write_json
from stages.core.params import Params
from stages.toy_driver.blind import write_blind_floor
from stages.toy_driver.judge import Exam, flat, judge
from stages.toy_driver.loop import Schedule
from stages.toy_driver.phases import Run, new_language_training, train_language, train_tower
from stages.toy_driver.pool import Job, draw_pool, split_by_scene
from stages.toy_driver.shape import config
from stages.toy_driver.teacher import teach
from stages.toy_driver.weights import publish
from stages.vla.toy_text import write_tokenizer

log = logging.getLogger(__name__)
STAGES = Path(__file__).parent
DRIVER = Path("models/driver")  # not vla.checkpoint, which may be a real one


def main(params: Params) -> None:
    """Draw the pool, train both phases, judge on held-out scenes, publish the weights."""
    p, world = params.train_driver, params.make_world
    _refuse_shared_scenes(params)
    torch.set_num_threads(p.threads)
    torch.manual_seed(p.seed)
    jobs = [Job(p.pool_seed + i, p.frames_per_scene, world.size_px, params.vla.size_px) for i in range(p.pool_scenes)]
    drawn_by = [STAGES / name for name in ("vla/recipe/pool.py", "tokens.py", "backbone/patches.py")]
    code = code_hashes(STAGES / "scenes") | {str(path): sha256(path) for path in drawn_by}
    drawn = fingerprint([asdict(job) for job in jobs], code)
    work = Path("runs/train_driver") / fingerprint(
        p.model_dump(), drawn, code_hashes(STAGES / "vla", STAGES / "backbone")
    )
    pool = draw_pool(Path("runs/driver_pool") / drawn, jobs, world.workers)
    write_tokenizer(work)
    tokenizer = load_tokenizer(work)
    model = build_model(config(p.vision.model_dump(), p.language.model_dump(), positions=512))
    with tracking.stage_run("train_driver", params) as record:
        phases = Run(work, record.metrics, p.batch_size)
        images, _ = split_by_scene(len(pool.event), p.pool_scenes, p.holdout_scenes)
        train_tower(model, pool, images, Schedule(p.tower_steps, p.tower_lr, p.seed), phases)
        teacher = teach(model, tokenizer, pool, p.pool_scenes, work)
        learned, held_out = split_by_scene(len(teacher.answers), p.pool_scenes, p.holdout_scenes)
        schedules = {
            "regression": Schedule(p.language_regression_steps, p.language_lr, p.seed + 1),
            "answer": Schedule(p.language_answer_steps, p.language_lr, p.seed + 2),
        }
        train_language(new_language_training(model, tokenizer), teacher, learned, schedules, phases)
        figures = {**judge(Exam(model, tokenizer, teacher, held_out), learned), "trained": _extent(params, len(images))}
        write_blind_floor(DRIVER, teacher.speed_mps[learned], teacher.future_m[learned])
        publish(model, DRIVER, params.vla.size_px, figures)
        write_json(Path("metrics/train_driver.json"), figures)
        record.metrics(flat(figures))
    sees = figures["sees"]
    log.info("driver: L2 %.2f m, blind floor %.2f m", sees["none"]["l2_m"], sees["blind_floor"]["l2_m"])
    shutil.rmtree(work)
    shutil.rmtree(Path("runs/driver_pool"))


def _extent(params: Params, images: int) -> dict[str, dict[str, float]]:
    """How much the driver was shown: images, and samples drawn from them, by phase."""
    p = params.train_driver
    scenes = p.pool_scenes - p.holdout_scenes
    language = p.language_regression_steps + p.language_answer_steps
    return {
        "tower": {"scenes": scenes, "images": images, "samples": p.batch_size * p.tower_steps},
        "language": {"scenes": scenes, "images": scenes * p.frames_per_scene, "samples": p.batch_size * language},
    }


def _refuse_shared_scenes(params: Params) -> None:
    """A scene that the driver has learned must not judge it."""
    world, driver = params.make_world, params.train_driver
    data = range(world.seed, world.seed + world.train_scenes + world.val_scenes)
    pool = range(driver.pool_seed, driver.pool_seed + driver.pool_scenes)
    if data.start < pool.stop and pool.start < data.stop:
        raise ParamsError(
            expected="a pool of scenes that the data set does not hold",
            got=f"seeds {pool} over {data}",
            fix="move train_driver.pool_seed in params.yaml",
        )


if __name__ == "__main__":
    run(main)
