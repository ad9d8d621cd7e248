"""What goes over the wire is complete, stable, and says what is wrong in one way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import ValidationError

from livedex import errors
from livedex.errors import EmbedderUnavailable, LivedexError, NotFound, NotFresh, StoreUnavailable, TokenRefused
from livedex.model import Dropped, Freshness, Hit, Mode, Query, Retrieval, Verdict, Watermark, WhenStale
from livedex.retrieve import MOST_HITS
from livedex.serve import wire
from livedex.serve.wire import Failure, RetrieveRequest
from livedex.status import ViewDescription

PUBLISHED = {
    Retrieval: {
        "retrieval_id", "view", "generation", "hits", "watermark", "lag_seconds", "capturing", "timings",
        "data_timestamp", "freshness", "verdict", "searched_at", "lexical_only",
    },
    Hit: {
        "document_id", "document_version", "chunk_id", "chunk_index", "source", "title", "section", "section_type",
        "start", "end", "text", "metadata", "score", "scores", "source_position", "source_time", "created_at",
        "embedding_model", "schema_version", "stale", "updated_at", "stale_since", "complete",
    },
    Freshness: {"met", "waited_seconds", "unmet"},
    Verdict: {"contract", "outcome", "violations", "dropped", "escalation"},
    Dropped: {"document_id", "document_version", "chunk_id", "source", "score", "scores", "violations"},
    Watermark: {"source", "position", "time", "heartbeat_at", "state", "lag_seconds"},
    ViewDescription: {
        "view", "description", "sources", "metadata", "generation", "embedding_model", "documents", "chunks",
        "lag_seconds", "capturing", "watermark",
    },
    wire.Problem: {"type", "message"},
    wire.Refusal: {"error"},
}  # fmt: skip


def every_error(kind: type[LivedexError] = LivedexError) -> Iterator[type[LivedexError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from every_error(below)


@pytest.mark.parametrize("shape", PUBLISHED, ids=lambda shape: shape.__name__)
def test_a_published_name_never_goes_away(shape: type) -> None:
    assert PUBLISHED[shape] - {field.name for field in fields(shape)} == set()


def test_everything_that_a_query_can_say_can_be_asked() -> None:
    asked = {"query" if field.name == "text" else field.name for field in fields(Query)}
    assert set(RetrieveRequest.model_fields) == asked | {"view"}


def test_a_request_becomes_the_query_that_it_says() -> None:
    body = '{"view": "handbook", "query": "refunds", "top_k": 3, "filters": {"a": "1", "b": ["2", "3"]}, '
    body += '"tenant": "acme", "principals": ["anna"], "exact": true, "mode": "lexical", "max_staleness_seconds": 5, '
    body += '"at_least": "kb:1:1:0/1", "when_stale": "serve", "wait_seconds": 0.5}'
    query = Query("refunds", 3, {"a": ("1",), "b": ("2", "3")}, "acme", ("anna",), exact=True, mode=Mode.LEXICAL,
                  max_staleness_seconds=5.0, at_least=("kb:1:1:0/1",), when_stale=WhenStale.SERVE,
                  wait_seconds=0.5)  # fmt: skip
    assert RetrieveRequest.model_validate_json(body).asked() == query


def test_a_bare_request_asks_what_a_bare_query_does() -> None:
    assert RetrieveRequest(view="handbook", query="refunds").asked() == Query("refunds")


def test_as_many_hits_can_be_asked_for_as_there_can_be() -> None:
    assert wire.MOST_HITS == MOST_HITS


def test_every_error_has_its_status() -> None:
    assert set(wire.STATUSES) == set(every_error())


def test_an_error_that_the_table_does_not_know_has_the_status_of_the_one_above_it() -> None:
    class StoreGoneAway(StoreUnavailable):
        """As another release may have it."""

    assert Failure.of(StoreGoneAway()).status == 503


def test_an_error_is_told_by_its_name_and_its_message() -> None:
    assert Failure.of(NotFound("There is no view x.")).refusal == wire.Refusal(
        wire.Problem("NotFound", "There is no view x.")
    )


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (StoreUnavailable(), {"Retry-After": "1"}),
        (EmbedderUnavailable(), {"Retry-After": "1"}),
        (EmbedderUnavailable(retry_after_seconds=12.2), {"Retry-After": "13"}),
        (NotFresh(), {"Retry-After": "1"}),
        (NotFound(), {}),
        (TokenRefused(), {}),
    ],
)
def test_only_what_passes_by_itself_says_when_to_ask_again(error: LivedexError, headers: dict[str, str]) -> None:
    assert Failure.of(error).headers == headers


def test_a_message_is_cut_before_it_is_too_long_to_send() -> None:
    message = Failure.of(NotFound("x" * 100_000)).refusal.error.message
    assert message == "x" * wire.LONGEST_MESSAGE + " …"


def test_half_a_character_in_a_message_can_be_sent() -> None:
    failure = Failure.of(NotFound("There is no view \ud800."))
    assert wire.REFUSAL.dump_json(failure.refusal) == (b'{"error":{"type":"NotFound","message":"There is no view ?."}}')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"query": "x"}', "view: is missing."),
        ('{"view": "v", "query": ""}', "query: String should have at least 1 character."),
        ('{"view": "v", "query": "x", "top_k": 0}', "top_k: should be greater than or equal to 1."),
        ('{"view": "v", "query": "x", "top_k": "5"}', "top_k: should be a valid integer."),
        ('{"view": "v", "query": "x", "exact": 1}', "exact: should be a valid boolean."),
        ('{"view": "v", "query": "x", "filters": {"a": 1}}', "filters.a: should be a list of texts."),
        ('{"view": "v", "query": "x", "filters": {"a": ["b", 1]}}', "filters.a.1: should be a valid string."),
        ('{"view": "v", "query": "x", "principals": "anna"}', "principals: should be a list of texts."),
        (
            '{"view": "v", "query": "x", "max_staleness_seconds": -1}',
            "max_staleness_seconds: should be greater than or equal to 0.",
        ),
        ('{"view": "v", "query": "x", "wait_seconds": 60}', "wait_seconds: should be less than or equal to 8."),
        ('{"view": "v", "query": "x", "at_least": [1]}', "at_least.0: should be a valid string."),
        ('{"view": "v", "query": "x", "mode": "x"}', "mode: should be 'hybrid', 'dense' or 'lexical'."),
        ("[]", "The body: should be an object."),
    ],
)
def test_a_validation_error_names_the_field(body: str, said: str) -> None:
    assert explained(body) == said


def test_an_unknown_field_is_refused_with_those_that_are_known() -> None:
    said = explained('{"view": "v", "query": "x", "topk": 5}')
    assert said == f"topk: unknown field. Known: {', '.join(RetrieveRequest.model_fields)}."


def test_only_the_first_faults_are_told() -> None:
    many = ", ".join(f'"field_{number}": 1' for number in range(1000))
    assert explained(f'{{"view": "v", "query": "x", {many}}}').count("unknown field") == wire.MOST_PROBLEMS


def explained(body: str) -> str:
    with pytest.raises(ValidationError) as caught:
        RetrieveRequest.model_validate_json(body)
    return wire.explain(caught.value.errors(), RetrieveRequest)


def test_the_documentation_names_every_field_of_a_question() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
    assert [name for name in RetrieveRequest.model_fields if f"| `{name}` |" not in page] == []
