"""Train ReconPruner on the frozen vision tower with DeepSpeed: images and masks -> models/recon.

Inputs: vla.checkpoint (the tower), data/masks, scenes.root. Outs: models/recon, results/training/recon (history.csv,
example pictures), metrics/train_pruner.json. On two GPUs: torchrun --nproc-per-node 2 -m stages.train_pruner

    python -m stages.train_pruner
"""

import logging
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stages.backbone.tower import load_vision
from stages.command import run
from stages.files import MANIFEST, fingerprint, sha256, write_json, write_manifest
from stages.masks import shards
from stages.params import Params
from stages.reconstruction import resume
from stages.reconstruction.data import View, first_tokens, held_out, open_samples, pictures_of, scenes_of
from stages.reconstruction.engine import Trainer
from stages.reconstruction.evaluation import final_figures
from stages.reconstruction.examples import write_examples, write_history
from stages.reconstruction.model import build
from stages.registry import checkpoint
from stages.scenes.nuscenes import open_scenes
from stages.tracking import stage_run

log = logging.getLogger(__name__)
MODEL, RESULTS, METRICS = Path("models/recon"), Path("results/training/recon"), Path("metrics/train_pruner.json")
EXAMPLES = 4


def main(params: Params) -> None:
    """Encode the training split once, train or go on training, write weights, history and examples."""
    options, vla = params.train_pruner, params.vla
    torch.set_num_threads(options.threads)
    tower, masks = load_vision(Path(vla.checkpoint)), shards.MaskSet()
    pictures = pictures_of(open_scenes(params.scenes.root, params.scenes.version), params.scenes.train_split)
    parts = held_out(pictures, options.held_out_scenes, options.seed)
    facts: dict[str, Any] = {
        "encoder": tower.fingerprint,
        "layer": asdict(tower.decoder_shape),
        "masks": sha256(shards.FOLDER / MANIFEST),
        "scenes": {"version": params.scenes.version, "split": params.scenes.train_split, "images": len(pictures)},
        "view": {"size_px": vla.size_px, "fit": vla.fit},
    }
    folder = resume.run_folder(options, [facts, [(p.token, p.path.stat().st_size) for p in pictures]])
    trainer = Trainer(build(tower.decoder_shape, options), options, folder)
    trainer.resume(resume.newest(folder))
    view = View(vla.size_px, vla.fit, options.pixels_per_token)
    train, kept = (open_samples(part, masks.mask, tower, view, options.feature_memory_gb) for part in parts)
    trainer.module.pruner.set_statistics(first_tokens(train))
    with ExitStack() as stack:
        record = stack.enter_context(stage_run("train_pruner", params)) if trainer.rank == 0 else None
        history = trainer.run(train, kept, record.metrics if record else _unrecorded)
        if record is None:
            return
        config = facts | {
            "held_out_scenes": scenes_of(parts[1]),
            "params": fingerprint(options.model_dump(mode="json")),
        }
        checkpoint.save(MODEL, trainer.module.pruner, config)
        pictures_out = write_examples(RESULTS, trainer.module, kept, EXAMPLES)
        write_manifest(RESULTS, [write_history(RESULTS / "history.csv", history), *pictures_out], {})
        write_json(METRICS, final_figures(history) | {"images": len(train), "held_out_images": len(kept)})
        record.dataset("nuScenes-FG", shards.FOLDER, "training")
        record.artifact(MODEL)
        record.artifact(RESULTS)
    shutil.rmtree(folder)


def _unrecorded(values: dict[str, float], step: int) -> None:
    """What the other ranks do with their numbers."""


if __name__ == "__main__":
    run(main)
