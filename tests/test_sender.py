"""When the second process sends, and when it leaves."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.core import sender
from stages.core.spool import Run, drop, is_live


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sender, "IDLE_S", 0.6)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").write_text("")
    return tmp_path / "1.jsonl"


@pytest.fixture
def following(spool: Path) -> Iterator[Callable[[Callable[[], int]], threading.Thread]]:
    """Starts a sender, as a thread here, that calls what it is given."""
    threads: list[threading.Thread] = []

    def begin(send: Callable[[], int]) -> threading.Thread:
        threads.append(threading.Thread(target=sender.follow, args=(spool.parent, send)))
        threads[-1].start()
        return threads[-1]

    yield begin
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_run_that_ends_is_sent_at_once_and_then_the_sender_leaves(
    spool: Path, following: Callable[[Callable[[], int]], threading.Thread]
) -> None:
    run = Run(spool, {})
    sent: list[bool] = []

    def send() -> int:
        sent.append(is_live(spool))
        drop(spool)
        return 0

    thread = following(send)
    time.sleep(1)  # longer than it waits for a stage: a living one keeps it
    assert thread.is_alive()
    assert not sent
    run.end("FINISHED")
    thread.join(10)
    assert sent == [False]


def test_a_run_that_ends_while_its_events_are_sent_for_long_is_sent_before_the_sender_leaves(
    spool: Path, following: Callable[[Callable[[], int]], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "FLUSH_S", 0.1)
    run = Run(spool, {})
    sent: list[bool] = []

    def send() -> int:
        if spool.exists():
            sent.append(is_live(spool))
        if sent[-1]:
            time.sleep(0.8)  # longer than it waits for a stage
            run.end("FINISHED")
        else:
            drop(spool)
        return 0

    following(send).join(10)
    assert sent == [True, False]


def test_a_run_that_was_refused_is_not_sent_again_and_again(
    spool: Path, following: Callable[[Callable[[], int]], threading.Thread]
) -> None:
    Run(spool, {}).end("FINISHED")
    calls: list[int] = []

    def refuse() -> int:
        calls.append(1)
        return 1

    following(refuse).join(10)
    assert len(calls) == 1


def test_a_sender_leaves_when_a_stage_wants_another_store(
    spool: Path, following: Callable[[Callable[[], int]], threading.Thread]
) -> None:
    run = Run(spool, {})
    thread = following(lambda: 0)
    (spool.parent / "store").write_text("http://127.0.0.1:5000")
    thread.join(10)
    assert not thread.is_alive()
    run.end("FINISHED")


def test_a_run_is_over_until_dvc_writes_its_lock(spool: Path) -> None:
    Run(spool, {}).end("FINISHED")
    assert not sender.is_over(spool)
    spool.with_suffix(".sent.json").write_text(f'{{"ended": {time.time() - 60}}}')
    assert sender.is_over(spool)
    Path("dvc.lock").write_text("")
    assert sender.is_over(spool)  # it may still be writing
    written_s = time.time() - sender.QUIET_S - 1
    os.utime("dvc.lock", (written_s, written_s))
    assert not sender.is_over(spool)


def test_a_stage_of_a_pipeline_does_not_wait_for_a_file_and_does_for_a_server(
    spool: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[Path] = []
    monkeypatch.setattr(sender, "start", started.append)
    monkeypatch.setattr(sender, "LAST_FLUSH_S", 0.2)
    monkeypatch.setenv("DVC_STAGE", "score_plans@none")
    Run(spool, {}).end("FINISHED")
    sender.wait_until_sent(spool)
    assert not started
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    sender.wait_until_sent(spool)
    assert started
    assert "no answer" in caplog.text
