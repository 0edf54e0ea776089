"""Make models/demo, the committed pruner of `fastdrive demo`, from a pruner that the pipeline has trained.

Takes the decoder from results/training/<pruner>/decoder, where train_pruner leaves it.

    python -m stages.demo.make models/recon
"""

import argparse
import shutil
from pathlib import Path

from stages.backbone.vision import load_vision
from stages.core.command import run
from stages.core.errors import DataError
from stages.core.io import check_file, write_bytes, write_manifest
from stages.core.params import Params
from stages.demo.look import DECODER, DRIVER, PRUNER, painter
from stages.pruning import checkpoint
from stages.pruning.recon import build

TRAINING = Path("results/training")
SELF = "python -m stages.demo.make"


def make(pruner: Path, decoder: Path, out: Path) -> None:
    """Write `out`: copies of both folders' weights and configs under manifests of their own.

    Raises DataError when one is missing or damaged, or the pruner is of another encoder than the committed driver's.
    """
    made_by = "dvc repro train_pruner@recon"
    config = checkpoint.load(pruner, build, made_by)[1]
    encoder = load_vision(DRIVER).fingerprint
    if config["encoder"] != encoder:
        raise DataError(
            expected=f"a pruner of the committed driver's encoder {encoder}", got=config["encoder"], fix=f"`{made_by}`"
        )
    names = (checkpoint.WEIGHTS, checkpoint.CONFIG)
    read = {
        folder: {name: check_file(source, name, made_by).read_bytes() for name in names}
        for source, folder in ((decoder, out / DECODER), (pruner, out))
    }
    shutil.rmtree(out, ignore_errors=True)
    for folder, held in read.items():
        files = [folder / name for name in held]
        for path in files:
            write_bytes(path, held[path.name])
        write_manifest(folder, files, {"made_by": f"{SELF} {pruner}"})
    painter(out)  # what is committed can be loaded


def main(_params: Params) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog=SELF, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pruner", type=Path, help="folder of a trained pruner")
    words = parser.parse_args()
    make(words.pruner, TRAINING / words.pruner.name / "decoder", PRUNER)


if __name__ == "__main__":
    run(main)
