"""Where a picture goes, and its numbers beside it."""

from pathlib import Path

from stages.core.errors import ParamsError


def check_out(out: Path) -> None:
    """Raise ParamsError for a picture that the numbers beside it would overwrite."""
    if out == out.with_suffix(".json"):
        raise ParamsError(
            expected="an --out for the picture; its numbers go beside it as JSON",
            got=str(out),
            fix=f"give `--out {out.with_suffix('.png')}`",
        )
