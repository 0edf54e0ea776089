"""Profile: every method -> its FLOPs at the paper's shapes and the driver's own, and measured milliseconds.

The methods are measured in one process, interleaved, so that a noisy machine slows all of them alike.

Inputs: infra/qwen2_5_vl_{3b,7b}.json, infra/params/paper.yaml, vla.checkpoint, the pruners' own weights, a key frame
of the evaluation split.
Outs: results/efficiency/<method>.json and metrics/efficiency.json (counts, same bytes every time),
results/latency/<method>.json (measured, other bytes every time: phases, memory, ceilings, what choosing is worth).

    python -m stages.profile_efficiency
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig

from stages.core import tracking
from stages.core.command import run
from stages.core.io import read_json, write_json
from stages.core.params import Params, read_params
from stages.core.progress import progress
from stages.efficiency.counted import count, meta_model, paper_account
from stages.efficiency.flops import PAPER_MODEL, PAPER_MODEL_7B, account, as_metrics
from stages.pruning import base as pruning
from stages.scenes.nuscenes import open_scenes
from stages.vla import base as vla
from stages.vla.base import driver_options
from stages.vla.measured import Request, measured
from stages.vla.questions import Questions

log = logging.getLogger(__name__)
SEED = 0  # of the bootstrap over measured rounds


def main(params: Params) -> None:
    """Count and measure every method of the grid at every prune ratio."""
    options, names = params.profile_efficiency, params.grid.methods
    torch.set_num_threads(options.threads)
    # At the paper's shapes with the paper's options: a layer of the small driver's three is another one of 36
    theirs = read_params(Path("infra/params/paper.yaml")).pruners
    small, large = meta_model(PAPER_MODEL), Qwen2_5_VLConfig(**read_json(PAPER_MODEL_7B, "git checkout infra"))
    with tracking.stage_run("profile_efficiency", params) as record, torch.inference_mode():
        asked = _request(params)
        methods, metrics = {}, {}
        for name in progress(names, len(names), "count FLOPs"):
            percents = [percent for percent in params.grid.ratios_of(name) if percent]
            pruner = pruning.load(name, params.pruners[name])
            of_paper = pruning.load(name, theirs.get(name, params.pruners[name]))
            request_of_paper = (options.grid, options.prompt_tokens, percents, of_paper)
            counts = {
                "paper": paper_account(small, *request_of_paper),
                "paper_7b": account(large, *request_of_paper),
                "driver": _driver_account(asked, percents, pruner),
            }
            methods[name] = pruner, counts["driver"]
            metrics[name] = as_metrics(counts["paper"])
            write_json(Path(f"results/efficiency/{name}.json"), counts)
        write_json(Path("metrics/efficiency.json"), metrics)
        latency = measured(asked, methods, options.pairs, SEED)
        about = {"driver": params.vla.name, "host": "eager", "answer_tokens": asked.answer_tokens}
        for name, one in latency.items():
            write_json(Path(f"results/latency/{name}.json"), about | one)
            for key, part in metrics[name].items():
                record.metrics({f"{name}/{key}.{metric}": number for metric, number in part.items()})
        record.artifact(Path("results/latency"))
    log.info("profile_efficiency: %d methods counted and measured", len(names))


def _driver_account(asked: Request, percents: Sequence[int], pruner: pruning.Pruner) -> dict[str, Any]:
    """Return the table of `account` of the driver, with what torch counts while the pruner chooses its last row."""
    seen = asked.chosen(pruner, [0, *percents][-1])
    table = account(asked.driver.model.config, seen[0][0].grid, asked.text_tokens, percents, pruner)
    counted = sum(sum(count(partial(pruner.select, view, K))) for view, K in seen)
    stated = table["rows"][-1]["flops"]
    return table | {"choosing": {"closed_form": stated["pruner"] - stated["watch"], "counted": counted}}


def _request(params: Params) -> Request:
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    frame = scenes.frame(scenes.tokens(params.scenes.eval_split)[0])
    questions = Questions(scenes, params.vla.questions, params.vla.questions_sha256)
    options = driver_options(params.vla.model_dump(), 1, questions.text)
    driver: Any = vla.load(params.vla.name, options)
    return Request(driver, frame, params.profile_efficiency.answer_tokens)


if __name__ == "__main__":
    run(main)
