"""All that shapes the masks of a data set, and the name of the folder where work on them waits."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stages import files
from stages.scenes import layout

WORK = Path("runs/masks")
STAGES = Path(__file__).parents[1]


@dataclass(frozen=True)
class Recipe:
    """A plain value, so that it can be sent to another process."""

    root: str
    version: str
    annotator: str
    options: Mapping[str, object]  # nested lists and mappings of plain YAML values
    images_per_shard: int
    oracle_root: str | None

    def key(self) -> str:
        """Equal recipes, equal keys, whatever stands in `options`."""
        return json.dumps(vars(self), sort_keys=True)

    def work_folder(self) -> Path:
        """Where finished shards wait: another option, table, map, truth or line of code, another folder."""
        tables = layout.table_hashes(Path(self.root), self.version)
        truth = Path(self.oracle_root or "") / files.MANIFEST
        oracle = files.sha256(truth) if self.oracle_root and truth.is_file() else self.oracle_root
        shaping = (self.annotator, self.options, self.images_per_shard, oracle, tables, self._code())
        return WORK / files.fingerprint(*shaping)

    def _code(self) -> dict[str, str]:
        """The annotator and what makes shards of its masks, with all they import: not what reports on them."""
        found: set[Path] = set()
        todo = {STAGES / "masks" / f"{self.annotator}.py", STAGES / "masks" / "shard_maker.py"}
        while todo:
            found |= todo
            todo = {other for path in todo for other in imported(path)} - found
        return {str(path.relative_to(STAGES)): files.sha256(path) for path in sorted(found) if path.is_file()}


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files that a file imports anywhere in it, of the folders of stages/: files at its top shape no mask."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())) if path.is_file() else ():
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    inside = (name.split(".")[1:] for name in names if name.split(".")[:1] == ["stages"])
    paths = (STAGES.joinpath(*parts).with_suffix(".py") for parts in inside if len(parts) > 1)
    return frozenset(path for path in paths if path.is_file())
