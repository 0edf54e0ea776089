import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.core.errors import DataError, ParamsError
from stages.masks.grounding.checkpoints import Source, fill, require, weights_of

SOURCE = Source("official.pth", "its repository")


def write(path: Path, held: object) -> str:
    torch.save(held, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(path: Path, sha256: str | None) -> dict[str, torch.Tensor]:
    return weights_of(path, sha256, SOURCE, "sam_sha256")


def test_the_tensors_of_a_checkpoint_lose_the_prefix_of_data_parallel_training(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    sha256 = write(tmp_path / "x.pth", {"model": {"module.a": shared, "module.b": shared}})
    tensors = weights(tmp_path / "x.pth", sha256)
    assert tensors.keys() == {"a", "b"}
    torch.testing.assert_close(tensors["b"], shared)


def test_a_missing_checkpoint_is_named_with_its_official_place(tmp_path: Path) -> None:
    for call in (lambda path: weights(path, "0" * 64), lambda path: require(path, None, SOURCE, "sam_sha256")):
        with pytest.raises(DataError, match=r"checkpoint .*x\.pth, got no such file.*put official\.pth from its repo"):
            call(tmp_path / "x.pth")


def test_a_checkpoint_with_another_hash_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sha256 = write(tmp_path / "x.pth", {"a": torch.zeros(1)})
    with pytest.raises(DataError, match=f"sha256 {'0' * 64} .*sam_sha256.*got {sha256}"):
        weights(tmp_path / "x.pth", "0" * 64)


def test_a_checkpoint_without_a_named_hash_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.pth", {"a": torch.zeros(1)})
    with pytest.raises(ParamsError, match="sam_sha256, got null"):
        weights(tmp_path / "x.pth", None)
    with pytest.raises(ParamsError, match="sam_sha256, got null"):
        require(tmp_path / "x.pth", None, SOURCE, "sam_sha256")


@pytest.mark.parametrize("held", [{"a": nn.Linear(1, 1)}, {"model": {"a": 3}}, [torch.zeros(1)]])
def test_what_is_more_than_tensors_is_refused(tmp_path: Path, held: object) -> None:
    sha256 = write(tmp_path / "x.pth", held)
    with pytest.raises(DataError, match="tensors (in|by name)"):
        weights(tmp_path / "x.pth", sha256)


def test_a_model_takes_exactly_its_own_weights() -> None:
    own = nn.Linear(2, 1).state_dict()
    filled = fill(nn.Linear(2, 1), own | {"label_enc.weight": torch.zeros(1)}, "it", ("label_enc.weight",))
    assert torch.equal(filled.weight, own["weight"])  # type: ignore[arg-type]
    for came in ({"weight": own["weight"]}, own | {"more": torch.zeros(1)}, own | {"weight": torch.zeros(1, 3)}):
        with pytest.raises(DataError, match="exactly the weights of it, got 1 that differ"):
            fill(nn.Linear(2, 1), came, "it", ())
