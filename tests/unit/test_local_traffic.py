"""How the local embedder parts documents into runs, and who waits for whom."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from livedex.adapters.embedders import local
from livedex.adapters.embedders.local import runs_of_similar_length


def test_documents_wait_for_queries_and_go_when_none_is_left() -> None:
    traffic, went = local._Traffic(), threading.Event()

    def document_run() -> None:
        traffic.wait_for_quiet(patience_seconds=60)
        went.set()

    with traffic.query():
        waiting = threading.Thread(target=document_run)
        waiting.start()
        held = not went.wait(0.05)
    waiting.join(timeout=10)
    assert (held, went.is_set()) == (True, True)


def test_documents_go_on_when_queries_never_end() -> None:
    traffic = local._Traffic()
    waiting = threading.Thread(target=traffic.wait_for_quiet, args=(0.01,), daemon=True)
    with traffic.query():
        waiting.start()
        waiting.join(timeout=10)
        assert not waiting.is_alive()


@given(lengths=st.lists(st.integers(2, 256), max_size=60), padded_tokens=st.integers(0, 2_000))
def test_every_text_is_in_one_run_and_runs_stay_small(lengths: list[int], padded_tokens: int) -> None:
    runs = runs_of_similar_length(lengths, padded_tokens)
    assert sorted(index for run in runs for index in run) == list(range(len(lengths)))
    assert [run for run in runs if len(run) > 1 and len(run) * max(lengths[i] for i in run) > padded_tokens] == []


@given(lengths=st.lists(st.integers(2, 256), max_size=60))
def test_no_text_is_padded_by_more_than_a_third_or_sixteen_tokens(lengths: list[int]) -> None:
    for run in runs_of_similar_length(lengths, 1_024):
        parts = [lengths[index] for index in run]
        assert max(parts) - min(parts) <= max(min(parts) // 3, 16)
