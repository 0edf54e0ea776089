"""Profile: one pruner -> its FLOPs at the paper's shapes and the driver's own, and measured milliseconds of the driver.

Inputs: infra/qwen2_5_vl_{3b,7b}.json, infra/params/paper.yaml, vla.checkpoint, the pruner's own weights, a key frame
of the evaluation split.
Outs: results/efficiency/<pruner>.json and metrics/efficiency/<pruner>.json (counts, same bytes every time),
results/latency/<pruner>.json (measured, other bytes every time: phases, memory, ceilings, what choosing is worth).

    python -m stages.profile_efficiency divprune
"""

import logging
from pathlib import Path
from typing import Any

import torch

from stages.core import tracking
from stages.core.command import cell, run
from stages.core.io import read_json, write_json
from stages.core.params import Params, read_params
from stages.efficiency.accounts import account, as_metrics
from stages.efficiency.choosing import paper_account
from stages.efficiency.counted import chosen_account
from stages.efficiency.shapes import PAPER_MODEL, PAPER_MODEL_7B, model_shape
from stages.pruning import base as pruning
from stages.routes.questions import open_questions
from stages.scenes.nuscenes import open_scenes
from stages.vla import base as vla
from stages.vla.base import driver_options
from stages.vla.measured import measured
from stages.vla.phases import Request, request

log = logging.getLogger(__name__)
GIT = "git checkout infra"
HOST = "eager"
SEED = 0  # of the bootstrap over measured rounds
PAPER_PROFILE = Path("infra/params/paper.yaml")


def main(params: Params) -> None:
    """Count and measure the pruner of this matrix cell at every prune ratio."""
    name = cell(params.grid.pruners + params.grid.trained)
    percents = [] if name == "none" else list(params.grid.percents)
    options = params.profile_efficiency
    torch.set_num_threads(options.threads)
    pruner = pruning.load(name, params.pruners[name])
    with tracking.stage_run("profile_efficiency", params, cell=name) as record, torch.inference_mode():
        asked = _request(params)
        # At the paper's shapes with the paper's options: a layer of the small driver's three is another one of 36
        theirs = pruning.load(name, read_params(PAPER_PROFILE).pruners.get(name, params.pruners[name]))
        asked_of_paper = (options.grid, options.prompt_tokens, percents, theirs)
        paper = paper_account(read_json(PAPER_MODEL, GIT), *asked_of_paper)
        larger = account(model_shape(read_json(PAPER_MODEL_7B, GIT)), *asked_of_paper)
        config = asked.driver.model.config.to_dict()
        own = chosen_account(
            config,
            asked.text_tokens,
            percents,
            pruner,
            lambda percent: asked.chosen(pruner, percent),
        )
        pruners = {0: pruning.load("none", {})} | dict.fromkeys(percents, pruner)
        latency = {"driver": params.vla.name, "host": HOST, "answer_tokens": asked.answer_tokens} | measured(
            asked, pruners, own, model_shape(config).language, options.pairs, SEED
        )
        write_json(Path(f"results/latency/{name}.json"), latency)
        write_json(Path(f"results/efficiency/{name}.json"), {"paper": paper, "paper_7b": larger, "driver": own})
        write_json(Path(f"metrics/efficiency/{name}.json"), as_metrics(paper))
        record.metrics({f"{row}.{key}": n for row, part in as_metrics(paper).items() for key, n in part.items()})
        record.artifact(Path(f"results/latency/{name}.json"))
    log.info("profile_efficiency %s: %d prune ratios counted and measured", name, len(percents))


def _request(params: Params) -> Request:
    scenes = open_scenes(params.scenes.root, params.scenes.version)
    frame = scenes.frame(scenes.tokens(params.scenes.eval_split)[0])
    named = params.vla.model_dump() | {"host": HOST}  # whose phases are measured; `make bench-gpu` measures the fast
    options = driver_options(named, 1, open_questions(named, scenes).text)
    driver: Any = vla.load(params.vla.name, options)
    return request(driver, frame, params.profile_efficiency.answer_tokens)


if __name__ == "__main__":
    run(main)
