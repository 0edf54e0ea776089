"""The two folders of a drawn data set: taken over only when ours, sealed by manifests when all is written."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.core import io
from stages.core.errors import DataError, ParamsError
from stages.scenes.oracle import EVENTS_FILE

MARK = "drawn.txt"
_TEXT = "Drawn by `dvc repro make_world`; the next run of that stage replaces this folder.\n"


def claim(root: str, oracle_root: str | None) -> tuple[Path, Path]:
    """Both folders, empty but for a mark that says whose they are.

    Raises ParamsError without an oracle folder, DataError when a folder holds anything that this stage has not drawn.
    """
    if oracle_root is None:
        raise ParamsError(
            expected="a folder in scenes.oracle_root for the true class maps of the drawn world",
            got="null",
            fix="set scenes.oracle_root, or leave make_world out: real data needs no drawn world",
        )
    folders = Path(root), Path(oracle_root)
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise DataError(
                expected=f"{folder} empty or drawn by make_world",
                got="files that make_world has not drawn",
                fix="point scenes.root and scenes.oracle_root to other folders, or move those files away",
            )
    for folder in folders:
        (folder / io.MANIFEST).unlink(missing_ok=True)  # first, so that a half-emptied folder never counts as whole
        for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != MARK:
                entry.unlink()
        io.write_text(folder / MARK, _TEXT)
    return folders


def seal(root: Path, oracle_root: Path, version: str, written: Sequence[str], truths: Sequence[str]) -> None:
    """Write the oracle's manifest, then `<version>/identity.json`, then the world's manifest, last.

    `truths` are the class maps. DVC stages downstream depend on <root>/<version> alone: identity.json changes whenever
    any file of the world or of the oracle does, and so stands for images, maps and bus messages there.
    """
    sealed = [oracle_root / name for name in (MARK, EVENTS_FILE, *truths)]
    io.write_manifest(oracle_root, sealed, {"images": len(truths)})
    oracle = io.sha256(oracle_root / io.MANIFEST)
    everything = [(name, io.sha256(root / name)) for name in sorted(written)]
    identity = f"{version}/identity.json"
    io.write_json(root / identity, {"world": io.fingerprint(everything), "oracle_manifest_sha256": oracle})
    notes = {"images": len(truths), "oracle_manifest_sha256": oracle}
    io.write_manifest(root, [root / name for name in (MARK, identity, *written)], notes)
