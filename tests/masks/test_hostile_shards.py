"""A shard with members that lead out of the folder: bytes are read where the index says, nothing is unpacked."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core import io
from stages.core.errors import DataError
from stages.masks import shards, writing
from stages.masks.base import Mask

SHARD = "shards/val-0000.tar"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published set of one mask."""
    mask = Mask(np.eye(20, dtype=bool), (), np.zeros((0, 4), np.float32))
    rows = writing.write_shard(tmp_path / "work" / SHARD, [("aaaa", mask)]).rows
    facts = {"sample": "s", "scene": "scene-0001", "camera": "CAM_FRONT", "split": "val", "shard": SHARD}
    shards.publish(tmp_path / "work", tmp_path / "masks", [{**row, **facts} for row in rows], {"annotator": "by hand"})
    return tmp_path / "masks"


def reseal(folder: Path) -> None:
    """A manifest that agrees with whatever lies there now, as whoever made the set would write it."""
    io.write_manifest(folder, [folder / shards.INDEX, folder / SHARD], {"annotator": "by hand"})


def listing(root: Path) -> set[Path]:
    return set(root.rglob("*"))


def test_members_that_lead_out_of_the_folder_are_written_nowhere(folder: Path) -> None:
    with tarfile.open(folder / SHARD, "w") as tar:
        for name in ("../../outside.png", "/tmp/outside.png", "aaaa.mask.png"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, BytesIO(b"evil"))
        link = tarfile.TarInfo("shards/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    reseal(folder)
    before = listing(folder.parent)
    with pytest.raises(DataError, match="mask aaaa in .*val-0000.tar") as told:
        shards.MaskSet(folder).mask("aaaa")
    assert "`dvc repro generate_masks`" in str(told.value)
    assert listing(folder.parent) == before


@pytest.mark.parametrize(
    "place", [{"offset": 1 << 40}, {"size": 1 << 40}, {"offset": -1}, {"size": -1}, {"sha256": "0" * 64}]
)
def test_an_index_that_points_past_its_shard_is_refused(place: dict[str, int | str], folder: Path) -> None:
    rows = pq.read_table(folder / shards.INDEX).to_pylist()
    io.write_parquet(folder / shards.INDEX, pa.Table.from_pylist([rows[0] | place], shards.SCHEMA))
    reseal(folder)
    with pytest.raises(DataError, match="mask aaaa"):
        shards.MaskSet(folder).mask("aaaa")


@pytest.mark.parametrize("shard", ["../outside.tar", "/etc/passwd", "shards/../../outside.tar", "shards/none.tar"])
def test_an_index_that_names_a_file_outside_reads_nothing_of_it(shard: str, folder: Path) -> None:
    (folder.parent / "outside.tar").write_bytes((folder / SHARD).read_bytes())
    rows = pq.read_table(folder / shards.INDEX).to_pylist()
    io.write_parquet(folder / shards.INDEX, pa.Table.from_pylist([rows[0] | {"shard": shard}], shards.SCHEMA))
    reseal(folder)
    with pytest.raises(DataError, match="a shard that the manifest does not name"):
        shards.MaskSet(folder).mask("aaaa")


def test_a_manifest_without_the_shard_or_with_another_size_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / io.MANIFEST).read_text())
    manifest["files"][SHARD]["size"] += 1
    (folder / io.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="val-0000.tar of .* bytes"):
        shards.MaskSet(folder)
