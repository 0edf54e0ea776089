import builtins
import errno
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stages.core.errors import DataError, MachineError, ParamsError
from stages.masks.grounding import checkpoints
from stages.masks.grounding.checkpoints import Source, fill, places, require, weights_of

SOURCE = Source("official.pth", "its repository")


def write(path: Path, held: object) -> str:
    torch.save(held, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(path: Path, sha256: str | None) -> dict[str, torch.Tensor]:
    return weights_of(path, sha256, SOURCE, "sam_sha256")


def test_a_checkpoint_is_converted_once_and_then_read_without_the_original(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    sha256 = write(tmp_path / "x.pth", {"model": {"module.a": shared, "module.b": shared}})
    first = weights(tmp_path / "x.pth", sha256)
    (tmp_path / "x.pth").unlink()
    again = weights(tmp_path / "x.pth", sha256)
    assert first.keys() == again.keys() == {"a", "b"}
    torch.testing.assert_close(again["b"], shared)
    assert places(tmp_path / "x.pth", sha256)[0].name == f"x.{sha256[:16]}.safetensors"


def test_a_missing_checkpoint_is_named_with_its_official_place(tmp_path: Path) -> None:
    for call in (lambda path: weights(path, "0" * 64), lambda path: require(path, None, SOURCE, "sam_sha256")):
        with pytest.raises(DataError, match=r"checkpoint .*x\.pth; got no such file.*put official\.pth from its repo"):
            call(tmp_path / "x.pth")


def test_a_checkpoint_with_another_hash_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "x.pth", {"a": torch.zeros(1)})
    with pytest.raises(DataError, match=f"sha256 {'0' * 64} .*sam_sha256.*got {sha256}"):
        weights(tmp_path / "x.pth", "0" * 64)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_checkpoint_without_a_named_hash_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.pth", {"a": torch.zeros(1)})
    with pytest.raises(ParamsError, match="sam_sha256; got null"):
        weights(tmp_path / "x.pth", None)
    with pytest.raises(ParamsError, match="sam_sha256; got null"):
        require(tmp_path / "x.pth", None, SOURCE, "sam_sha256")


@pytest.mark.parametrize("held", [{"a": nn.Linear(1, 1)}, {"model": {"a": 3}}, [torch.zeros(1)]])
def test_what_is_more_than_tensors_is_refused(tmp_path: Path, held: object) -> None:
    sha256 = write(tmp_path / "x.pth", held)
    with pytest.raises(DataError, match="tensors (in|by name)"):
        weights(tmp_path / "x.pth", sha256)


def test_bytes_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"<html>")
    with pytest.raises(DataError, match="nothing but tensors"):
        weights(tmp_path / "x.pth", hashlib.sha256(b"<html>").hexdigest())


def test_a_flipped_bit_in_what_was_kept_is_found_and_mended_from_the_original(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "x.pth", {"a": torch.zeros(64)})
    weights(tmp_path / "x.pth", sha256)
    kept = places(tmp_path / "x.pth", sha256)[0]
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    assert not weights(tmp_path / "x.pth", sha256)["a"].any()
    kept.write_bytes(damaged)
    (tmp_path / "x.pth").unlink()
    with pytest.raises(DataError, match="no such file"):
        weights(tmp_path / "x.pth", sha256)


def test_a_model_takes_exactly_its_own_weights() -> None:
    own = nn.Linear(2, 1).state_dict()
    filled = fill(nn.Linear(2, 1), own | {"label_enc.weight": torch.zeros(1)}, "it", ("label_enc.weight",))
    assert torch.equal(filled.weight, own["weight"])  # type: ignore[arg-type]
    for came in ({"weight": own["weight"]}, own | {"more": torch.zeros(1)}, own | {"weight": torch.zeros(1, 3)}):
        with pytest.raises(DataError, match="exactly the weights of it; got 1 that differ"):
            fill(nn.Linear(2, 1), came, "it", ())


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint's folder in which no file can be opened for writing, for root neither."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "share").mkdir()
    stock = builtins.open

    def refusing(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if "r" not in mode and Path(path).absolute().parent in refused:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return stock(path, mode, *more, **options)

    refused = [tmp_path / "share"]
    monkeypatch.setattr(builtins, "open", refusing)
    return tmp_path / "share"


def test_of_a_share_that_cannot_be_written_the_tensors_are_kept_in_a_folder_of_our_own(share: Path) -> None:
    write(share.parent / "x.pth", {"a": torch.ones(3)})
    sha256 = hashlib.sha256((share.parent / "x.pth").read_bytes()).hexdigest()
    (share.parent / "x.pth").rename(share / "x.pth")
    assert weights(share / "x.pth", sha256)["a"].tolist() == [1, 1, 1]
    assert [path.name for path in share.iterdir()] == ["x.pth"]
    assert places(share / "x.pth", sha256)[1].is_file()
    (share / "x.pth").unlink()
    require(share / "x.pth", sha256, SOURCE, "sam_sha256")
    assert weights(share / "x.pth", sha256)["a"].tolist() == [1, 1, 1]


def test_where_nothing_can_be_written_it_says_which_folder_to_open(
    share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = write(share.parent / "x.pth", {"a": torch.ones(3)})
    (share.parent / "x.pth").rename(share / "x.pth")
    monkeypatch.setattr(checkpoints, "CACHE", share)
    with pytest.raises(MachineError, match=r"tensors of .*x\.pth .*neither folder can be written; next: make .*share"):
        weights(share / "x.pth", sha256)


def test_a_damaged_note_of_what_was_kept_is_mended_from_the_original(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "x.pth", {"a": torch.zeros(64)})
    weights(tmp_path / "x.pth", sha256)
    note = places(tmp_path / "x.pth", sha256)[0].with_suffix(".json")
    note.write_text("{")
    assert not weights(tmp_path / "x.pth", sha256)["a"].any()
    assert note.read_text() != "{"
