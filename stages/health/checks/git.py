"""Whether what is run is what git holds."""

from collections.abc import Iterator
from pathlib import Path

from stages.core.provenance import git_says
from stages.health.finding import Finding

MADE = ("dvc.lock", "metrics")  # written by DVC and its stages as they run


def check(root: Path) -> Iterator[Finding]:
    """Edits of code or params, locks that are not committed, a merge that is not over."""
    commit = git_says(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        then = "`git clone` the project: runs are named by their commit"
        yield Finding("git", "warn", "no git checkout, or no git", "a commit", then)
        return
    changed = [line[3:] for line in git_says(root, "status", "--porcelain").splitlines()]
    made = [path for path in changed if path.split("/")[0] in MADE]
    edited = [path for path in changed if path not in made]
    yield Finding("git", "ok", f"commit {commit}, {len(edited)} files edited" if edited else f"commit {commit}")
    if edited:
        shown = ", ".join(edited[:4]) + ", ..." * (len(edited) > 4)
        then = "`git commit` them: the run is marked dirty, and no version made of it is promoted"
        yield Finding("git", "warn", f"not committed: {shown}", "code and params as committed", then)
    if made:
        then = "`git add dvc.lock metrics && git commit`, or `git checkout dvc.lock metrics && dvc checkout`"
        yield Finding("git", "warn", f"not committed: {', '.join(made[:4])}", "the results as committed", then)
    untracked = [name for name in ("requirements.lock", "dvc.lock") if not git_says(root, "ls-files", name)]
    if untracked:
        then = f"`git add {' '.join(untracked)}`"
        yield Finding("git", "warn", f"{', '.join(untracked)} unknown to git", "both locks committed", then)
