"""One row's plans in shards of whole scenes, as work that several processes share and a killed run resumes.

A finished shard is not planned again. It waits in a work folder named by a fingerprint of all that shapes it, outside
of DVC's outs (DVC deletes those before it runs a stage). kill -9 loses the shards in work.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stages.core import io
from stages.core.errors import DataError
from stages.core.progress import progress
from stages.pruning import base as pruning
from stages.pruning.base import Pruner, ScoringPruner, TokenView
from stages.scenes import layout
from stages.scenes.base import Frame
from stages.scenes.nuscenes import Scenes, open_scenes
from stages.vla import base as vla
from stages.vla.base import Driver, driver_options
from stages.vla.plans import Plan, write_plans
from stages.vla.questions import Questions

WORK = Path("runs/plans")
STAGES = Path(__file__).parents[1]
MASKS = Path("data/masks")
CODE = ("backbone", "pruning", "scenes", "vla")
LIBRARIES = ("transformers", "tokenizers", "opencv-python-headless", "pillow", "numpy")
CAN_MESSAGES = ("pose", "steeranglefeedback")  # those that a question is made of: half a GB of several in nuScenes
SMALL_BYTES = 64 * 2**20  # the tokenizer of Qwen2.5-VL has 11 MB, a shard of its weights GBs

Scores = dict[str, Float[np.ndarray, " N"]]  # by sample token: reading order, float32, higher is kept


@dataclass(frozen=True)
class PlanShard:
    """Consecutive scenes of a split, planned at one go by one process."""

    number: int
    tokens: tuple[str, ...]  # of their key frames, scene by scene, in the order of time

    @property
    def name(self) -> str:
        """Stem of its files."""
        return f"shard-{self.number:04d}"


def plan_shards(scenes: Iterable[Sequence[str]], scenes_per_shard: int) -> list[PlanShard]:
    """Return shards of so many scenes each, in their order; `scenes` has the tokens of each one's key frames."""
    whole = list(scenes)
    groups = [whole[i : i + scenes_per_shard] for i in range(0, len(whole), scenes_per_shard)]
    return [PlanShard(i, tuple(token for tokens in group for token in tokens)) for i, group in enumerate(groups)]


@dataclass(frozen=True)
class PlanJob:
    """Settings and inputs that shape the plans of a row. A plain value, so that it can be sent to another process."""

    row: str  # of the grid
    method: str  # the pruner; `none` in a control
    options: Mapping[str, Any]  # of the pruner
    percents: tuple[int, ...]
    root: str
    version: str
    split: str
    vla: Mapping[str, Any]  # the section of params
    batch_size: int
    threads: int
    scenes_per_shard: int
    masked: bool  # reads the masks of generate_masks

    def __hash__(self) -> int:
        return hash((self.row, self.method, self.percents))

    @cached_property
    def work(self) -> Path:
        """Where finished shards wait: another param, input, library or line of code, another folder."""
        libraries = {name: version(name) for name in LIBRARIES}
        code = io.code_hashes(*(STAGES / name for name in CODE))
        return WORK / self.row / io.fingerprint(asdict(self), self._inputs(), code, libraries, torch.__version__)

    def part(self, shard: PlanShard, percent: int) -> Path:
        """Return the path of a shard's plans at a ratio."""
        return self.work / f"{shard.name}-{percent}.parquet"

    def finished(self, shard: PlanShard) -> Mapping[str, Any] | None:
        """Return the note of a whole shard: tokens, sha256, counts, questions, remarks, seconds; None of any other."""
        try:
            note: Mapping[str, Any] = io.read_json(self.work / f"{shard.name}.json", "")
        except DataError:  # none, or a damaged one
            return None
        paths = [self.part(shard, percent) for percent in self.percents]
        whole = all(path.is_file() and io.sha256(path) == note["sha256"].get(path.name) for path in paths)
        return note if whole and note["tokens"] == list(shard.tokens) else None

    def plan(self, shard: PlanShard) -> str:
        """Plan a shard if it is not there and whole: a parquet per ratio and, last, a note in JSON; return its name."""
        if self.finished(shard) is not None:
            return shard.name
        scenes, driver, pruner, scores, questions = load(self)
        began_s, before, percents = time.perf_counter(), driver.counts(), self.percents
        plans: dict[int, dict[str, Plan]] = {percent: {} for percent in percents}
        with TemporaryDirectory() as folder:
            frame_of = frames_of(self.row, scenes, self.split, Path(folder))
            batches = list(driver.batches([frame_of(token) for token in shard.tokens]))
            for batch in progress(batches, len(batches), f"plan {self.row}"):
                for percent, part in driver.plan(batch, pruner, percents).items():
                    plans[percent].update((plan.token, plan) for plan in part)
        lowest = plans[min(percents)]  # where alone the scores of a ranking lie
        lowest |= {token: replace(plan, scores=scores.pop(token, None)) for token, plan in lowest.items()}
        sha256s, remarks = {}, {}
        for percent in percents:
            path, ordered = self.part(shard, percent), [plans[percent][token] for token in shard.tokens]
            write_plans(path, ordered)
            sha256s[path.name] = io.sha256(path)
            remarks[str(percent)] = Counter(filter(None, (driver.remark(plan.answer) for plan in ordered)))
        note = {
            "tokens": list(shard.tokens),
            "sha256": sha256s,
            "counts": {name: count - before[name] for name, count in driver.counts().items()},
            "questions": questions.counts(shard.tokens),
            "remarks": remarks,
            "seconds": time.perf_counter() - began_s,
        }
        io.write_json(self.work / f"{shard.name}.json", note)
        return shard.name

    def _inputs(self) -> list[Any]:
        """Return what is read beside params: small files by content, weights and images by name and size.

        34k images are too many to be hashed at each start; the manifest of a drawn world has their hashes. Weights have
        theirs in params or in a manifest.
        """
        root = Path(self.root)
        files = [path for name in CAN_MESSAGES for path in sorted((root / "can_bus").glob(f"*_{name}.json"))]
        folders = [root, Path(self.options.get("oracle_root") or root), *([MASKS] if self.masked else [])]
        files += [folder / io.MANIFEST for folder in folders if (folder / io.MANIFEST).is_file()]
        for folder in map(Path, filter(None, [self.vla["checkpoint"], self.options.get("checkpoint")])):
            inside = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
            # Not what a download leaves in hidden folders
            files += [folder / path for path in inside if not any(part.startswith(".") for part in path.parts)]
        images = [] if root / io.MANIFEST in files else (root / "samples" / "CAM_FRONT").glob("*")
        states = [(path.name, path.stat().st_size) for path in sorted(images)]
        sizes = [path.stat().st_size for path in files]
        contents = [io.sha256(path) if size <= SMALL_BYTES else size for path, size in zip(files, sizes, strict=True)]
        return [layout.table_hashes(root, self.version), states, list(zip(map(str, files), contents, strict=True))]


scenes_of = lru_cache(maxsize=1)(open_scenes)


@lru_cache(maxsize=1)
def load(job: PlanJob) -> tuple[Scenes, Driver, Pruner, Scores, Questions]:
    """Open what a process keeps open for a job; the scores are those of a pruner that ranks."""
    torch.set_num_threads(job.threads)
    scenes = scenes_of(job.root, job.version)
    questions = Questions(scenes, job.vla["questions"], job.vla["questions_sha256"])
    mask_of = None
    if job.masked:
        from stages.masks.mask_set import MaskSet  # here: it needs PIL and pyarrow

        mask_of = MaskSet(MASKS).mask
    options = driver_options(job.vla, job.batch_size, questions.text, mask_of)
    pruner, scores = remembering(pruning.load(job.method, job.options))
    return scenes, vla.load(job.vla["name"], options), pruner, scores, questions


def remembering(pruner: Pruner) -> tuple[Pruner, Scores]:
    """Return a pruner that chooses as `pruner` does, and where its scores gather; none of one that does not rank.

    A sample's first scores are remembered: a method inside the language model is asked again for each prune ratio, of
    the same attention. `pruner` itself is left as it is.
    """
    scores: Scores = {}
    if not isinstance(pruner, ScoringPruner):
        return pruner, scores
    ranks, twin = pruner.score, copy(pruner)

    def score(view: TokenView) -> Float[Tensor, "B N"]:
        found = ranks(view)
        if not scores.keys() >= set(view.keys):
            scores.update(zip(view.keys, found.float().cpu().numpy(), strict=True))
        return found

    # Of this one object, which may be frozen: its own `select` goes through it, and failures still name its method
    object.__setattr__(twin, "score", score)
    return twin, scores


def partners(scene_of: Mapping[str, str]) -> dict[str, str]:
    """For each token (-> its scene) one of another scene, half the split on. DataError for one scene."""
    tokens, found = list(scene_of), {}
    if len(set(scene_of.values())) < 2:
        raise DataError(
            expected="an evaluation split of at least two scenes, for the image of another one",
            got="one",
            fix="choose another scenes.eval_split, or take other_image out of grid.references",
        )
    for i, token in enumerate(tokens):
        start = (i + len(tokens) // 2) % len(tokens)
        further_on = tokens[start:] + tokens[:start]
        found[token] = next(other for other in further_on if scene_of[other] != scene_of[token])
    return found


def frames_of(row: str, scenes: Scenes, split: str, folder: Path) -> Callable[[str], Frame]:
    """Return the function that gives a row of the grid the frame of a sample token, as recorded or as a control has it.

    Black images, of the cameras' sizes, are written into `folder`; those of another scene are of `split`, DataError
    when it has one scene only. Speed, prompt and recorded future stay the key frame's own.
    """
    if row == "other_image":
        partner = partners({token: scene for scene in scenes.split(split) for token in scenes.tokens_of_scene(scene)})
        return lambda token: replace(scenes.frame(token), cameras=scenes.frame(partner[token]).cameras)
    if row != "black_image":
        return scenes.frame
    from PIL import Image

    def blackened(token: str) -> Frame:
        frame = scenes.frame(token)
        cameras = {}
        for name, camera in frame.cameras.items():
            path = folder / "{}x{}.png".format(*camera.size_px)
            if not path.is_file():
                Image.new("RGB", camera.size_px).save(path)
            cameras[name] = replace(camera, path=path)
        return replace(frame, cameras=cameras)

    return blackened
