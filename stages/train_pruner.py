"""Train one pruner on the frozen vision tower with DeepSpeed: images and masks -> models/<pruner>.

Inputs: vla.checkpoint (the tower), data/masks, scenes.root. Outs: models/<pruner>, results/training/<pruner>
(history.csv, pictures, the decoder), metrics/train_pruner/<pruner>.json. All GPUs of the machine are used; on several
machines:
torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint <host> -m stages.train_pruner recon

    python -m stages.train_pruner recon
"""

import logging
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from stages.backbone.qwen import digest, first_layers, load_model
from stages.backbone.vision import FastTower
from stages.core.command import cell, run
from stages.core.io import MANIFEST, alone, fingerprint, sha256, write_json, write_manifest
from stages.core.params import Params, TrainPruner
from stages.core.tracking import stage_run
from stages.masks import mask_set
from stages.pruning import checkpoint
from stages.scenes.nuscenes import open_scenes
from stages.training import engine, resume
from stages.training.data import Picture, View, check_splits, first_tokens, held_out, pictures_of, scenes_of
from stages.training.evaluation import final_figures, write_figures, write_history
from stages.training.loading import StreamedSamples
from stages.training.model import build
from stages.training.token_cache import TokenCache
from stages.training.trainer import Trainer, on_sigterm, try_again

log = logging.getLogger(__name__)
MODELS, RESULTS, METRICS = Path("models"), Path("results/training"), Path("metrics/train_pruner")
EXAMPLES = 4
DECODER = "decoder"  # paints from the tokens that the pruner keeps; no driver needs it


def main(params: Params) -> None:
    """Train `models/<name>`: in this process, or in one per GPU, each of which comes here too."""
    name = cell(params.grid.trained)
    if (processes := engine.ranks()) > 1:
        engine.launch(processes, "stages.train_pruner", name)
        return
    engine.end_with_launcher()
    with on_sigterm(try_again):
        train(params, params.training(name), name)


def train(params: Params, options: TrainPruner, name: str) -> None:
    """Encode the training split once, train or go on training, write weights, history and pictures.

    Raises an InputError for what the params, the data or the machine lack; TryAgainError after SIGTERM.
    """
    torch.set_num_threads(options.threads)
    device = engine.join_ranks()
    model = load_model(Path(params.vla.checkpoint))
    layers = first_layers(model, options.decoder_layers) if options.init == "checkpoint" else []
    tower = FastTower(model).to(device, torch.bfloat16 if options.bf16 and device.type == "cuda" else None)
    pictures = training_pictures(params, options)
    parts = held_out(pictures, options.held_out_scenes, options.seed)
    config = facts(params, options, tower, parts)
    sizes = [(p.token, p.path.stat().st_size) for p in pictures]
    engine_settings = sha256(engine.CONFIGS / f"zero{options.zero_stage}.json")
    folder = resume.run_folder(options, [config, sizes, digest(layers), engine_settings])
    module = build(tower.decoder_shape, options, layers)
    cache = None
    if options.token_cache:
        cache = TokenCache(Path(options.token_cache), tower, options.size_px, options.fit)
    view = View(options.size_px, options.fit, options.pixels_per_token)
    given: dict[str, Any] = {"workers": options.workers, "cache": cache}
    streams = [StreamedSamples(part, mask_set.FOLDER, tower, view, **given) for part in parts]
    rank, world = dist.get_rank(), dist.get_world_size()
    with nullcontext() if rank else alone(folder / ".lock", f"train in {folder}", engine.SAVING_S + 10):
        trainer = Trainer(module, options, folder, config)
        if cache is not None:
            cache.fill([*parts[0], *parts[1]], workers=options.workers, rank=rank, world=world, wait=dist.barrier)
        samples, kept = (stream.loaded(options.feature_memory_gb) for stream in streams)
        if options.standardise:
            module.pruner.set_statistics(first_tokens(samples).float().cpu())
        if rank:
            trainer.run(samples, kept)
            return
        with stage_run("train_pruner", params, cell=name) as record:

            def epoch(step: int) -> None:
                for path in write_figures(folder / "epochs", module, kept, EXAMPLES, step):
                    record.artifact(path, "epochs")

            history = trainer.run(samples, kept, record.metrics, epoch)
            tag = trainer.best_tag if options.publish == "best" else resume.tag_of(options.steps)
            tensors = resume.load(folder, tag)[0]
            module.load_state_dict({weight: tensors[weight] for weight in module.state_dict()})
            checkpoint.save(MODELS / name, module.pruner, config)
            out = RESULTS / name
            shutil.rmtree(out / "epochs", ignore_errors=True)  # of an earlier run
            shutil.copytree(folder / "epochs", out / "epochs")  # those before a kill, too
            if module.decoder is not None:
                checkpoint.save(out / DECODER, module.decoder, module.decoder.facts)
            files = [write_history(out / "history.csv", history), *(out / "epochs").iterdir()]
            write_manifest(out, files, {})
            figures = final_figures(history, int(tag.removeprefix("step_")))
            write_json(METRICS / f"{name}.json", figures | {"images": len(samples), "held_out_images": len(kept)})
            record.dataset("nuScenes-FG", mask_set.FOLDER, "training")
            record.tags({"weights.sha256": sha256(MODELS / name / "model.safetensors")})
            record.artifact(MODELS / name)
            record.artifact(out)
        shutil.rmtree(folder)


def training_pictures(params: Params, options: TrainPruner) -> list[Picture]:
    """Images of the training split; of the evaluation split, too, with `other_splits`. Raises ParamsError otherwise."""
    source, eval_split = params.scenes, params.scenes.eval_split
    scenes = open_scenes(source.root, source.version)
    pictures = pictures_of(scenes, source.train_split)
    if options.other_splits:
        log.warning("train_pruner: learns from %s, too (other_splits): no figure on it is a clean one", eval_split)
        return pictures + pictures_of(scenes, eval_split)
    split_of = {row["token"]: row["split"] for row in mask_set.MaskSet().rows}
    check_splits(pictures, split_of, source.train_split, eval_split)
    return pictures


def facts(
    params: Params, options: TrainPruner, tower: FastTower, parts: tuple[list[Picture], list[Picture]]
) -> dict[str, Any]:
    """The origin of a pruner, for its config.json."""
    scenes = params.scenes
    split = scenes.train_split + (f"+{scenes.eval_split}" if options.other_splits else "")
    return {
        "objective": options.objective,
        "adversarial": options.adversarial,
        "encoder": tower.fingerprint,
        "layer": asdict(tower.decoder_shape),
        "masks": sha256(mask_set.FOLDER / MANIFEST),
        "scenes": {"version": scenes.version, "split": split, "images": sum(map(len, parts))},
        "held_out_scenes": scenes_of(parts[1]),
        "view": {"size_px": list(options.size_px), "fit": options.fit},
        "params": fingerprint(options.model_dump(mode="json", exclude=resume.WITHOUT_EFFECT)),
    }


if __name__ == "__main__":
    run(main)
