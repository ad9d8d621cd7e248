"""How history and samples become the lineage of a document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from livedex.rules.lineage import Reader, Recorded, Sample, Served, versions

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def state(seq: int, op: str = "u", *, before: int = 0) -> Recorded:
    return Recorded(seq, before, op, f"v{seq}", f"p{seq}", at(seq), at(seq + 0.1))


def sample(seq: int, seconds: float) -> Sample:
    return Sample(seq, at(seconds), at(seconds), 1)


def reader(*samples: Sample, applied: int | None, cursor: int = 100, since: float = -10.0,
           refused: str | None = None) -> Reader:  # fmt: skip
    return Reader(1, "handbook", True, at(since), cursor, applied, None, refused, samples)


def served(history: list[Recorded], to: Reader, kept_since: float = -100.0) -> list[Served]:
    return [version.served[0].served for version in versions(history, [to], at(kept_since))]


def test_a_version_without_a_sample_was_replaced_before_it_was_read() -> None:
    history = [state(1), state(2), state(3)]
    found = served(history, reader(sample(1, 1.5), sample(3, 3.5), applied=3))
    assert found == [Served.REPLACED, Served.REPLACED_FIRST, Served.SEARCHABLE]


def test_states_that_came_under_one_seq_were_never_searchable_but_for_the_last() -> None:
    history = [state(1), state(1, before=1), state(1, before=2)]
    assert served(history, reader(sample(1, 1.5), applied=1)) == [
        Served.REPLACED_FIRST, Served.REPLACED_FIRST, Served.SEARCHABLE,
    ]  # fmt: skip


def test_a_newest_version_that_is_not_applied_waits() -> None:
    assert served([state(1), state(2)], reader(sample(1, 1.5), applied=1, cursor=1)) == [
        Served.SEARCHABLE, Served.WAITING,
    ]  # fmt: skip


def test_a_newest_version_that_was_read_and_refused_is_in_quarantine() -> None:
    assert served([state(1)], reader(applied=None, refused="too large")) == [Served.REFUSED]


def test_a_deletion_is_in_effect_before_it_is_applied() -> None:
    history = [state(1), state(2, "d")]
    (first, gone) = versions(history, [reader(sample(1, 1.5), applied=1, cursor=1)], at(-100))
    assert (first.served[0].served, first.served[0].replaced_at) == (Served.REPLACED, at(2.1))
    assert (gone.served[0].served, gone.served[0].lag_seconds) == (Served.DELETED, 0.1)


def test_a_document_that_was_sent_through_the_log_again_is_the_version_that_it_was() -> None:
    (version,) = versions([state(1)], [reader(sample(7, 9.0), applied=7)], at(-100))
    assert (version.served[0].served, version.served[0].searchable_at) == (Served.SEARCHABLE, at(9.0))


def test_what_was_replaced_before_a_generation_was_begun_it_never_had() -> None:
    history = [state(1), state(2)]
    assert served(history, reader(sample(2, 9.0), applied=2, since=5.0)) == [Served.EARLIER, Served.SEARCHABLE]


def test_of_what_is_older_than_samples_are_kept_nothing_is_claimed() -> None:
    history = [state(1), state(2), state(90)]
    assert served(history, reader(applied=90), kept_since=50.0) == [Served.UNKNOWN, Served.UNKNOWN, Served.SEARCHABLE]


def test_lag_is_from_commit_to_searchable() -> None:
    (version,) = versions([state(1)], [reader(sample(1, 1.5), applied=1)], at(-100))
    assert version.served[0].lag_seconds == 0.5
