"""A local copy of a released checkpoint: whole, and the one whose hash params name, before anything is loaded."""

import hashlib
import logging
import shlex
from pathlib import Path

from stages.core import io
from stages.core.errors import DataError, ParamsError

log = logging.getLogger(__name__)

HUB = "aaaaaap/ImpromptuVLAModel"
FOLDERS = ("3B_Base_finetune", "3B_AD", "3B_AD_finetune", "7B_Base_finetune", "7B_AD", "7B_AD_finetune")
SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
ADAPTER = "adapter_config.json"  # transformers lays what it names over the weights, where peft is installed
PROOFS = Path("runs/checkpoints")


def require(folder: Path) -> list[Path]:
    """The weight files of a whole snapshot, all that transformers would load.

    Raises DataError naming all that is missing, where from and where to, or what would be loaded unverified.
    """
    absent = [name for name in SMALL if not (folder / name).is_file()]
    shards: list[str] = [SINGLE]
    if (folder / INDEX).is_file():
        shards = _shards(folder)
    absent += [name for name in shards if not (folder / name).is_file()]
    if absent:
        absent = [f"{INDEX} or {SINGLE}" if name == SINGLE else name for name in absent]
        came = f"no {', '.join(absent)}" if folder.is_dir() else "no such folder"
        raise DataError(expected=f"a whole Qwen2.5-VL snapshot in {folder}", got=came, fix=fetch(folder))
    _refuse_others(folder, shards)
    return [folder / name for name in shards]


def _refuse_others(folder: Path, shards: list[str]) -> None:
    """transformers takes model.safetensors before an index, and before both what config.json names."""
    others = sorted({path.name for path in folder.glob("*.safetensors")} - set(shards))
    others += [name for name in (ADAPTER, INDEX) if (folder / name).is_file() and (name == ADAPTER or SINGLE in shards)]
    wanted = f"no weights in {folder} beside those that are verified ({shards[0]}{' ...' if shards[1:] else ''})"
    if others:
        aside = folder.parent / f"{folder.name}_others"
        moved = shlex.join([*(str(folder / name) for name in others), str(aside)])
        then = f"mkdir -p {shlex.quote(str(aside))} && mv {moved}"
        raise DataError(expected=wanted, got=", ".join(others), fix=then)
    config = io.read_json(folder / "config.json", fetch(folder))
    if isinstance(config, dict) and config.get("transformers_weights"):
        came = f"transformers_weights: {config['transformers_weights']} in its config.json"
        raise DataError(expected=wanted, got=came, fix=f"take that line out of {folder / 'config.json'}")


def _shards(folder: Path) -> list[str]:
    index = io.read_json(folder / INDEX, fetch(folder))
    try:
        names = sorted(set(index["weight_map"].values()))
    except (KeyError, TypeError, AttributeError) as error:
        wanted = f"a weight_map in {folder / INDEX}"
        raise DataError(expected=wanted, got=repr(error), fix=fetch(folder)) from error
    if not names or any(Path(name).name != name for name in names):
        came = ", ".join(map(str, names)) or "none"
        raise DataError(expected=f"names of files beside {folder / INDEX} in it", got=came, fix=fetch(folder))
    return names


def download(folder: Path) -> str:
    """The command that fetches a snapshot beside `folder`, or there where that has one of the released names."""
    return f"hf download {HUB} --include '{_released(folder)}/*' --local-dir {folder.parent}"


def fetch(folder: Path) -> str:
    """What to do for a whole snapshot."""
    made = folder.parent / _released(folder)
    return (
        f"{download(folder)}, which makes {made} (others there: {', '.join(FOLDERS)}), and vla.checkpoint: {made} in "
        "params.yaml"
    )


def _released(folder: Path) -> str:
    return folder.name if folder.name in FOLDERS else "3B_AD_finetune"


def verify(folder: Path, sha256: str | None) -> None:
    """Check the weights of a whole snapshot: `sha256sum *.safetensors | sha256sum` in its folder gives `sha256`.

    Gigabytes are read once: later calls, of other processes too, know the files by name, size, time and inode. Raises
    DataError for an incomplete snapshot or another hash, ParamsError when none is named.
    """
    came = weights_hash(require(folder))
    if sha256 is None:
        raise ParamsError(
            expected="vla.checkpoint_sha256 in params.yaml, which says which weights drive",
            got=f"null; the weights in {folder} have {came}",
            fix=f"vla.checkpoint_sha256: {came} if those are the ones you mean",
        )
    if came != sha256:
        raise DataError(expected=f"weights in {folder} with sha256 {sha256}", got=came, fix=fetch(folder))


def weights_hash(paths: list[Path]) -> str:
    """One hash of several files: of the lines that sha256sum prints of them, ordered by name."""
    paths = sorted(paths)
    proof = PROOFS / f"{io.fingerprint(*(_state(path) for path in paths))}.json"
    if proof.is_file():
        return str(io.read_json(proof, f"rm {proof}")["sha256"])
    log.info("reading %d weight files in %s once, for their hash", len(paths), paths[0].parent)
    lines = "".join(f"{io.sha256(path)}  {path.name}\n" for path in paths)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    io.write_json(proof, {"sha256": digest, "files": [str(path) for path in paths]})
    return digest


def _state(path: Path) -> tuple[str, int, int, int]:
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino
