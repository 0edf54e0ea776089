"""The page, tables and pictures that make_report wrote for a state: out of DVC's cache, the checkout or a folder."""

import configparser
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

OUT = "reports"  # of make_report in dvc.yaml
READ = (".csv", ".html", ".svg")  # what a comparison reads; of all else the hash is enough


@dataclass(frozen=True)
class Made:
    """Files under reports/ by their path in there."""

    files: Mapping[str, bytes] = field(default_factory=dict)  # those of READ that are at hand
    md5s: Mapping[str, str] = field(default_factory=dict)  # of every file
    absent: str = ""  # what is not at hand and which command brings it

    def table(self, name: str) -> str | None:
        """The CSV of a table, None where there is none."""
        data = self.files.get(f"tables/{name}.csv")
        return None if data is None else data.decode("utf-8", "replace")

    @property
    def page(self) -> str:
        """The report's HTML, empty where it is not at hand."""
        return self.files.get("index.html", b"").decode("utf-8", "replace")

    @property
    def tables(self) -> list[str]:
        """Names of the tables at hand."""
        names = sorted(self.files)
        return [name[7:-4] for name in names if name.startswith("tables/") and name.endswith(".csv")]

    @property
    def charts(self) -> list[str]:
        """Names of the charts at hand."""
        return [name[8:] for name in sorted(self.files) if name.startswith("figures/") and name.endswith(".svg")]


def made_of(hashes: Mapping[str, str], root: Path) -> Made:
    """What lies in the checkout or in DVC's cache with the very hashes of a dvc.lock (`hashes`: path -> md5)."""
    wanted = hashes.get(OUT)
    if not wanted:
        return Made(absent=f"its dvc.lock knows no {OUT}/; `dvc repro make_report` there makes one")
    files_of = listing(wanted, root)
    if not files_of:
        return Made(absent=f"its {OUT}/ is neither here nor in DVC's cache; `dvc fetch -a` brings what a remote has")
    files, lost = {}, 0
    for name, md5 in files_of.items():
        if name.endswith(READ) and ".." not in Path(name).parts:
            file = next((file for file in (cached(root, md5), root / OUT / name) if has(file, md5)), None)
            lost += file is None
            if file:
                files[name] = file.read_bytes()
    return Made(files, files_of, f"{lost} files of its {OUT}/ are not here; `dvc fetch -a` brings them" if lost else "")


def made_in(folder: Path) -> Made:
    """What lies in a folder as make_report writes it."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path.read_bytes() for name, path in found.items() if name.endswith(READ)}
    return Made(files, {name: _md5(path.read_bytes()) for name, path in found.items()})


def cached(root: Path, md5: str) -> Path:
    """Where DVC's cache keeps what has this hash."""
    config = configparser.ConfigParser()
    config.read([root / ".dvc/config", root / ".dvc/config.local"])
    folder = root / ".dvc" / config.get("cache", "dir", fallback="cache")
    return folder / "files/md5" / md5[:2] / md5[2:]


def has(file: Path, md5: str) -> bool:
    """Whether the file is there and is the one."""
    return file.is_file() and _md5(file.read_bytes()) == md5


def listing(md5: str, root: Path) -> dict[str, str]:
    """Path -> md5 of a folder that DVC knows by `md5`: from its cache, else from the checkout's own folder."""
    file = cached(root, md5)
    if has(file, md5.removesuffix(".dir")):
        return {part["relpath"]: part["md5"] for part in json.loads(file.read_bytes())}
    own = made_in(root / OUT).md5s if (root / OUT).is_dir() else {}
    parts = sorted(({"md5": value, "relpath": name} for name, value in own.items()), key=lambda part: part["relpath"])
    return dict(own) if _md5(json.dumps(parts, sort_keys=True).encode()) == md5.removesuffix(".dir") else {}


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
