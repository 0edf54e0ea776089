"""The clone in which a retrain works: clean, at the commit of the checkout, sharing its DVC cache; and its branch."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flows.dvc import DVC, QUIET, BusyError

AUTHOR = ["-c", "user.name=FastDrive retrain", "-c", "user.email=retrain@localhost"]
OURS = ("dvc.lock", "metrics", "models/driver")  # what DVC writes into a clone: a killed retrain leaves it half done


class WorkspaceError(RuntimeError):
    """A tree that is not clean, a remote that is not there, a git or DVC that says no: what, and what to do next."""


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """The clone of `root` in its .local/retrain, for this retrain alone.

    Raises WorkspaceError when `root` or the clone holds what no commit holds, BusyError when another retrain works.
    """
    clone = root / ".local/retrain"
    clone.parent.mkdir(exist_ok=True)
    with open(clone.parent / "retrain.lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another retrain works in {clone}; next: wait for it, or stop it") from error
        check_clean(root)
        if not (clone / ".git").is_dir():
            git(root, "clone", "--quiet", str(root), str(clone))
        forget(clone)
        check_clean(clone)
        git(clone, "fetch", "--quiet", "origin", "HEAD")
        git(clone, "checkout", "--quiet", "--detach", "FETCH_HEAD")
        share_cache(root, clone)
        share_masks(root, clone)
        yield clone


def check_clean(tree: Path) -> None:
    """Raises WorkspaceError naming a file: what is trained must be what a commit holds."""
    if changed := git(tree, "status", "--porcelain").splitlines():
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise WorkspaceError(
            f"wanted a clean tree in {tree}; got {changed[0].strip()!r}{more}; "
            f"next: git -C {tree} stash -u, or commit it, and run the same again"
        )


def forget(clone: Path) -> None:
    """Take back dvc.lock and metrics of a retrain that did not end; DVC's run cache still has what its stages made."""
    there = git(clone, "ls-tree", "--name-only", "HEAD", *OURS).split()
    if there:
        git(clone, "checkout", "--quiet", "--force", "HEAD", "--", *there)
    git(clone, "clean", "-fdq", "--", *OURS)


def share_cache(root: Path, clone: Path) -> None:
    """Settings of this machine (a remote's among them), one cache for both, and the outputs that it or the remote has.

    Raises WorkspaceError when there is no remote to push to: better now than behind hours of training.
    """
    local = root / ".dvc/config.local"
    if local.is_file():
        shutil.copy(local, clone / ".dvc/config.local")
    dvc(clone, "cache", "dir", "--local", dvc(root, "cache", "dir").strip())
    if not any(line.startswith("core.remote=") for line in dvc(clone, "config", "--list").splitlines()):
        raise WorkspaceError("wanted a default DVC remote; got none; next: dvc remote add -d NAME URL, and commit it")
    remote(clone, "pull", "--allow-missing")


def share_masks(root: Path, clone: Path) -> None:
    """Links to the finished masks of the checkout, so that already the first retrain annotates new scenes alone."""
    for work in (root / "runs/masks").glob("*/published"):
        mine = clone / "runs/masks" / work.parent.name
        if not mine.exists():
            part = mine.with_suffix(".part")  # a kill in here leaves no half of a set behind
            shutil.rmtree(part, ignore_errors=True)
            try:
                left_out = shutil.ignore_patterns("locks", ".*")
                shutil.copytree(work.parent, part, copy_function=_link_or_copy, ignore=left_out)
            except shutil.Error:  # the checkout is making masks right now: only a saving is lost
                shutil.rmtree(part, ignore_errors=True)
                continue
            part.rename(mine)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def commit(clone: Path, message: str) -> str:
    """Commit what DVC wrote on a new branch `retrain/<date>`, and give it to the checkout; the branch's name.

    A branch with these very files that nobody has merged yet is taken as it is: a schedule makes no heap of them.
    """
    git(clone, "add", "--all")
    git(clone, "fetch", "--quiet", "--prune", "origin", "+refs/heads/retrain/*:refs/remotes/origin/retrain/*")
    known = git(clone, "for-each-ref", "--format=%(refname:lstrip=3) %(tree)", "refs/remotes/origin/retrain").split()
    trees = dict(zip(known[::2], known[1::2], strict=True))
    made = git(clone, "write-tree").strip()
    for branch in (name for name, tree in trees.items() if tree == made):
        git(clone, "checkout", "--quiet", "--force", "--detach", f"origin/{branch}")
        return branch
    date = datetime.now(UTC).date().isoformat()
    names = (f"retrain/{date}{number}" for number in ("", *(f".{n}" for n in range(2, 1000))))
    branch = next(name for name in names if name not in trees)
    git(clone, "checkout", "--quiet", "-B", branch)
    git(clone, *AUTHOR, "commit", "--quiet", "--allow-empty", "--message", message)
    git(clone, "push", "--quiet", "origin", branch)
    return branch


def git(tree: Path, *words: str) -> str:
    """What git said. Raises WorkspaceError."""
    return _ask(["git", *words], tree)


def dvc(tree: Path, *words: str) -> str:
    """What DVC said. Raises WorkspaceError."""
    return _ask([*DVC, *words], tree)


def remote(tree: Path, *words: str) -> None:
    """`dvc push` or `pull`. Raises WorkspaceError with what the remote said; DVC's own --quiet would keep that back."""
    try:
        dvc(tree, *words)
    except WorkspaceError as error:
        said = [line.partition("ERROR: ")[2] for line in str(error).splitlines() if "ERROR: " in line]
        then = "look at `dvc remote list`; S3 takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY from the environment"
        came = "; ".join(said)[-600:] or str(error)
        raise WorkspaceError(
            f"wanted `dvc {words[0]}` in {tree}; got: {came}; next: {then}, then run the same again"
        ) from None


def _ask(command: Sequence[str], tree: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = os.environ | QUIET | {"GIT_TERMINAL_PROMPT": "0", "PATH": path}
    answer = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
    if answer.returncode:
        said = (answer.stderr.strip() or answer.stdout.strip())[-1500:]
        raise WorkspaceError(f"`{' '.join(command)}` in {tree} ended with {answer.returncode}: {said}")
    return answer.stdout
