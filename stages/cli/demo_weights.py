"""Make models/demo, the committed pruner of `fastdrive demo`, from a pruner that the pipeline has trained.

Takes the decoder from results/training/<pruner>/decoder, where train_pruner leaves it.

    python -m stages.cli.demo_weights models/recon
"""

import shutil
import sys
from pathlib import Path

from stages.backbone.vision import load_vision
from stages.cli.demo_picture import DECODER, DRIVER, PRUNER, load_reconstruction
from stages.core.errors import DataError
from stages.core.io import check_file, write_bytes, write_manifest
from stages.pruning import checkpoint
from stages.pruning.recon import MADE_BY, build


def make(pruner: Path, decoder: Path, out: Path) -> None:
    """Write `out`: copies of both folders' weights and configs under manifests of their own.

    Raises DataError when one is missing or damaged, or the pruner is of another encoder than the committed driver's.
    """
    config, encoder = checkpoint.load(pruner, build, MADE_BY)[1], load_vision(DRIVER).fingerprint
    if config["encoder"] != encoder:
        expected = f"a pruner of the committed driver's encoder {encoder}"
        raise DataError(expected=expected, got=config["encoder"], fix=f"`{MADE_BY}`")
    names = (checkpoint.WEIGHTS, checkpoint.CONFIG)
    contents = {
        folder: {name: check_file(source, name, MADE_BY).read_bytes() for name in names}
        for source, folder in ((decoder, out / DECODER), (pruner, out))
    }
    shutil.rmtree(out, ignore_errors=True)
    for folder, files in contents.items():
        for name, data in files.items():
            write_bytes(folder / name, data)
        made_by = f"python -m stages.cli.demo_weights {pruner}"
        write_manifest(folder, [folder / name for name in files], {"made_by": made_by})
    load_reconstruction(out)  # what is committed can be loaded


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path("results/training", Path(sys.argv[1]).name, "decoder"), PRUNER)
