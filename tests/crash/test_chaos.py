"""A short run of `python -m tests.chaos`: a load, searches, and faults of every kind that takes no long time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.run import Run
from tests.chaos.schedule import draw

SEED = 12
FAULTS = 24


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="livedex-chaos-"))
    made.chmod(0o711)  # root's servers run under another user, who has to get in
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.slow
async def test_every_promise_is_kept_while_processes_connections_servers_and_the_embedder_fail(folder: Path) -> None:
    run = Run(folder, draw(SEED, FAULTS, per_second=1.5), SEED, per_round=FAULTS)
    report = await run.play()
    assert report.wrongs == []
    assert report.faults.total() == FAULTS
    assert report.rounds == 1
    assert report.chunks_compared > 0
    assert report.answers["answers"] > 0
    assert report.committed.total() > 0
