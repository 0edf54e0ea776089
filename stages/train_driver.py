"""Train the small driver: a vision tower first, then frozen, a language model on top -> models/driver.

Inputs: scenes drawn on the fly from seeds that the data set does not use. Outs: models/driver (Hugging Face layout, in
git; the stage takes 80 minutes and is frozen in dvc.yaml), metrics/train_driver.json.

    python -m stages.train_driver
"""

import logging
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from stages.backbone.qwen import build_model, load_tokenizer
from stages.core import tracking
from stages.core.command import run
from stages.core.errors import ParamsError
from stages.core.io import code_hashes, fingerprint, write_json
from stages.core.params import Params
from stages.toy_driver.checkpoint import config, publish
from stages.toy_driver.evaluation import Evaluation, evaluate, write_blind_floor
from stages.toy_driver.phases import LanguageTraining, TowerPretraining
from stages.toy_driver.pool import draw_pool, draw_scene, encode_pool
from stages.toy_driver.trainer import Run, Schedule, fit
from stages.vla.toy import write_tokenizer

log = logging.getLogger(__name__)
STAGES = Path(__file__).parent
DRIVER = Path("models/driver")  # not vla.checkpoint, which may be a real one


def main(params: Params) -> None:
    """Draw the pool, train both phases, evaluate on held-out scenes, write the checkpoint."""
    p, world = params.train_driver, params.make_world
    drawn_seeds = range(world.seed, world.seed + world.train_scenes + world.val_scenes)
    pool_seeds = range(p.pool_seed, p.pool_seed + p.pool_scenes)
    if drawn_seeds.start < pool_seeds.stop and pool_seeds.start < drawn_seeds.stop:
        expected, got = "a pool of scenes that the data set does not hold", f"seeds {pool_seeds} over {drawn_seeds}"
        raise ParamsError(expected=expected, got=got, fix="move train_driver.pool_seed in params.yaml")
    torch.set_num_threads(p.threads)
    torch.manual_seed(p.seed)
    draw = partial(draw_scene, frames=p.frames_per_scene, drawn_px=world.size_px, size_px=params.vla.size_px)
    code = code_hashes(STAGES / "scenes", STAGES / "backbone", STAGES / "toy_driver")
    drawn = fingerprint(str(pool_seeds), draw.keywords, code)
    work = Path("runs/train_driver") / fingerprint(p.model_dump(), drawn, code_hashes(STAGES / "vla"))
    pool = draw_pool(Path("runs/driver_pool") / drawn, draw, pool_seeds, world.workers)
    write_tokenizer(work)
    tokenizer = load_tokenizer(work)
    model = build_model(config(p.vision.model_dump(), p.language.model_dump(), positions=512))
    with tracking.stage_run("train_driver", params) as record:
        phases, scenes = Run(work, record.metrics, p.batch_size), p.pool_scenes - p.holdout_scenes
        images = torch.arange(scenes * (len(pool.event) // p.pool_scenes))
        tower = TowerPretraining(model, tokens=pool.shares.shape[1])
        schedule = Schedule(p.tower_steps, p.tower_lr, p.seed)
        fit("tower", tower, lambda rows, _: tower.losses(pool, rows), images, schedule, phases)
        dataset = encode_pool(model, tokenizer, pool, p.pool_scenes)
        learned, held_out = torch.where(dataset.scene < scenes)[0], torch.where(dataset.scene >= scenes)[0]
        language = LanguageTraining(model, tokenizer)
        steps = {"regression": p.language_regression_steps, "answer": p.language_answer_steps}
        for i, phase in enumerate(steps, 1):
            schedule = Schedule(steps[phase], p.language_lr, p.seed + i)
            fit(phase, language, partial(language.losses, phase, dataset), learned, schedule, phases)
        figures = evaluate(Evaluation(model, tokenizer, dataset, held_out), learned)
        extent = {"scenes": scenes, "images": len(images)}
        figures["trained"] = {
            "tower": {**extent, "samples": p.batch_size * p.tower_steps},
            "language": {**extent, "images": len(learned), "samples": p.batch_size * sum(steps.values())},
        }
        write_blind_floor(DRIVER, dataset.speed_mps[learned], dataset.future_m[learned])
        publish(model, DRIVER, params.vla.size_px, figures)
        write_json(Path("metrics/train_driver.json"), figures)
        record.metrics(pd.json_normalize(figures, sep="/").to_dict("records")[0])
    sees = figures["sees"]
    log.info("driver: L2 %.2f m, blind floor %.2f m", sees["none"]["l2_m"], sees["blind_floor"]["l2_m"])
    shutil.rmtree(work)
    shutil.rmtree(Path("runs/driver_pool"))


if __name__ == "__main__":
    run(main)
