"""Where a picture goes, and its numbers beside it."""

from pathlib import Path

from stages.errors import ParamsError


def check_out(out: Path) -> None:
    """Raise ParamsError for a picture that the numbers beside it would overwrite."""
    if out == out.with_suffix(".json"):
        raise ParamsError(
            wanted="an --out for the picture; its numbers go beside it as JSON",
            came=str(out),
            then=f"give `--out {out.with_suffix('.png')}`",
        )
