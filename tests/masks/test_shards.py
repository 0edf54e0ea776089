import errno
import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import io
from stages.core.errors import DataError, MachineError
from stages.masks import shards, writing
from stages.masks.base import Mask

SHARD = "shards/scene-0001-000.tar"
TOKENS = ("aaaa", "bbbb", "cccc")


def mask_of(token: str) -> Mask:
    foreground = np.random.default_rng(ord(token[0])).uniform(size=(30, 50)) < 0.4
    return Mask(foreground, ("vehicle", "human"), np.array([[1, 2, 3, 4], [5.5, 6, 7, 8]], np.float32))


def masks() -> list[tuple[str, Mask]]:
    return [(token, mask_of(token)) for token in TOKENS]


def make_set(folder: Path) -> Path:
    """A published set of one shard of three masks in `folder`/masks."""
    written = writing.write_shard(folder / "work" / SHARD, masks()).rows
    facts = {"sample": "s", "scene": "scene-0001", "camera": "CAM_FRONT", "split": "train", "shard": SHARD}
    shards.publish(folder / "work", folder / "masks", [{**row, **facts} for row in written], {"annotator": "by hand"})
    return folder / "masks"


def test_masks_phrases_and_boxes_come_back(tmp_path: Path) -> None:
    found = shards.MaskSet(make_set(tmp_path))
    assert found.tokens("train") == list(TOKENS)
    assert found.tokens("val") == []
    assert len(found) == 3
    assert found.notes["annotator"] == "by hand"
    for token, mask in masks():
        np.testing.assert_array_equal(found.mask(token), mask.foreground)
        assert found.mask(token).dtype == np.bool_
        phrases, boxes_xyxy = found.found(token)
        assert phrases == mask.phrases
        np.testing.assert_array_equal(boxes_xyxy, mask.boxes_xyxy)
        assert found.row(token)["foreground_share"] == pytest.approx(mask.foreground.mean())


def test_the_index_says_where_tar_finds_a_member(tmp_path: Path) -> None:
    found = shards.MaskSet(make_set(tmp_path))
    with tarfile.open(tmp_path / "masks" / SHARD) as tar:
        names = [name for token in TOKENS for name in (f"{token}.mask.png", f"{token}.json")]
        assert tar.getnames() == names
        for row in found.rows:
            member = tar.getmember(f"{row['token']}.mask.png")
            assert (member.offset_data, member.size) == (row["offset"], row["size"])
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")
        described = json.loads(tar.extractfile("aaaa.json").read())  # type: ignore[union-attr]
    assert described == {"phrases": ["vehicle", "human"], "boxes": [[1, 2, 3, 4], [5.5, 6, 7, 8]]}


def test_masks_take_one_bit_a_pixel() -> None:
    assert len(writing.png_of(np.zeros((900, 1600), bool))) < 500


def test_equal_masks_make_equal_bytes(tmp_path: Path) -> None:
    first, second = make_set(tmp_path / "1"), make_set(tmp_path / "2")
    for name in (SHARD, shards.INDEX, io.MANIFEST):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_an_unknown_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a mask of image dddd; got none among the 3 .*dvc repro generate_masks"):
        shards.MaskSet(make_set(tmp_path)).mask("dddd")


def test_a_flipped_bit_is_found_and_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    found = shards.MaskSet(folder)
    data = bytearray((folder / SHARD).read_bytes())
    data[found.row("bbbb")["offset"] + 30] ^= 4
    (folder / SHARD).write_bytes(data)
    np.testing.assert_array_equal(shards.MaskSet(folder).mask("aaaa"), mask_of("aaaa").foreground)
    with pytest.raises(DataError, match=rf"mask bbbb in .*{SHARD} .*other bytes .*dvc repro generate_masks"):
        shards.MaskSet(folder).mask("bbbb")


def test_a_truncated_shard_is_refused_at_opening_with_the_first_lost_mask(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    whole = shards.MaskSet(folder)
    end = whole.row("cccc")["offset"] + 10
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:end])
    with pytest.raises(DataError, match=rf"mask cccc in .*{SHARD} .*a shard that ends \d+ bytes before"):
        shards.MaskSet(folder)


def test_a_member_taken_out_of_its_shard_is_named(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    size = (folder / SHARD).stat().st_size
    writing.write_shard(folder / SHARD, [pair for pair in masks() if pair[0] != "bbbb"])
    assert (folder / SHARD).stat().st_size == size  # tar fills up to 10 kB: the size tells nothing here
    with pytest.raises(DataError, match=rf"mask bbbb in .*{SHARD} .*a member taken out.*dvc repro generate_masks"):
        shards.MaskSet(folder).mask("bbbb")


def test_a_missing_shard_is_refused_at_opening(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    (folder / SHARD).unlink()
    with pytest.raises(DataError, match=rf"mask aaaa in .*{SHARD} .*no such shard"):
        shards.MaskSet(folder)


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    data = bytearray((folder / shards.INDEX).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / shards.INDEX).write_bytes(data)
    with pytest.raises(DataError, match=r"index\.parquet with sha256"):
        shards.MaskSet(folder).tokens("train")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; next: run `dvc repro generate_masks`"):
        shards.MaskSet(tmp_path / "nowhere")
    folder = make_set(tmp_path)
    (folder / io.MANIFEST).unlink()
    with pytest.raises(DataError, match="a folder without its manifest .*dvc repro generate_masks"):
        shards.MaskSet(folder)


def test_publishing_replaces_what_stood_there_and_keeps_the_work(tmp_path: Path) -> None:
    folder = make_set(tmp_path)
    (folder / "shards" / "old.tar").write_bytes(b"of another run")
    make_set(tmp_path)
    assert [path.name for path in (folder / "shards").iterdir()] == [Path(SHARD).name]
    assert (tmp_path / "work" / SHARD).is_file()


def test_publishing_copies_where_links_are_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr("os.link", refuse)
    np.testing.assert_array_equal(shards.MaskSet(make_set(tmp_path)).mask("aaaa"), mask_of("aaaa").foreground)


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = b"a former shard"
    (tmp_path / "shards").mkdir()
    (tmp_path / SHARD).write_bytes(before)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match=r"room to write .*scene-0001-000\.tar.*free some space"):
        writing.write_shard(tmp_path / SHARD, masks())
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [Path(SHARD).name]
    assert (tmp_path / SHARD).read_bytes() == before


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from stages.core.errors import MachineError
from stages.masks import writing
from stages.masks.base import Mask
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
rng = np.random.default_rng(0)
masks = [(f"{i:04d}", Mask(rng.uniform(size=(200, 300)) < 0.5, (), np.zeros((0, 4), np.float32))) for i in range(30)]
try:
    writing.write_shard(Path(sys.argv[1]), masks)
except MachineError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_real_write_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "limited.tar"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == MachineError.exit_code, done.stderr
    assert "room to write" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_recorded_sha256_is_that_of_the_png(tmp_path: Path) -> None:
    row = shards.MaskSet(make_set(tmp_path)).row("aaaa")
    data = (tmp_path / "masks" / SHARD).read_bytes()[row["offset"] : row["offset"] + row["size"]]
    assert hashlib.sha256(data).hexdigest() == row["sha256"]
    assert data == writing.png_of(mask_of("aaaa").foreground)


def test_a_shard_has_the_same_bytes_however_many_threads_make_its_pictures(tmp_path: Path) -> None:
    many = [(f"{i:04d}", mask_of(chr(97 + i % 26))) for i in range(50)]
    written = [writing.write_shard(tmp_path / str(threads), many, threads) for threads in (1, 4)]
    assert written[0] == written[1]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "4").read_bytes()
    assert written[0].sha256 == hashlib.sha256((tmp_path / "1").read_bytes()).hexdigest()
