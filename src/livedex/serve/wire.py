"""What goes over the wire, whatever the door: questions, answers, errors. No web framework here.

Answers are the values of `model` and `status` as they are, field by field, so that what these learn to say is said at
every door. Questions are spelled out, because what a stranger may ask is a decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema
from pydantic_core import ErrorDetails

from livedex import errors
from livedex.errors import EmbedderUnavailable, LivedexError, TooSlow
from livedex.model import Mode, Query, Retrieval, WhenStale
from livedex.status import ViewDescription

LONGEST_QUERY = 20_000
"""Characters. No embedder reads as far, and counting a book's tokens keeps others waiting."""
LONGEST_NAME = 48
MOST_HITS = 1000
MOST_PROBLEMS = 10
LONGEST_MESSAGE = 2000
ANSWER_SECONDS = 10.0
MOST_WAIT_SECONDS = 8.0
"""For fresher data, so that there is time left to answer."""
MOST_TOKENS = 100
READY_SECONDS = 2.0
"""Who watches over a process asks often and does not wait long."""
RETRY_AFTER_SECONDS = 1.0
"""What a caller is told to wait for a store or an embedder that does not say how long."""


class ServedIndex(Protocol):
    """What a door asks of the index behind it; `livedex.Index` is one."""

    @property
    def descriptions(self) -> Mapping[str, str | None]:
        """The views that can be asked, each with what its owner says that it holds."""
        ...

    async def retrieve(self, view: str, query: Query) -> Retrieval: ...

    async def describe(self) -> tuple[ViewDescription, ...]: ...

    async def unready(self) -> Mapping[str, str]:
        """Why views cannot be searched, by name; empty when all can. Raises StoreError."""
        ...


@asynccontextmanager
async def in_time(seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Raises TooSlow when the block takes longer. A store that restarts is waited for rather than refused, so there has
    to be an end to it."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TooSlow(
            f"There was no answer within {seconds:g} s. The store or the embedder is away or slow; ask again."
        ) from error


def _one_or_more(written: Any) -> Any:
    return [written] if isinstance(written, str) else written


Accepted = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A value, or those of which any will do."""


class Question(BaseModel):
    """What every door lets be asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    view: Annotated[str, Field(max_length=LONGEST_NAME)]
    """The view to search, by its name."""
    query: Annotated[str, Field(min_length=1, max_length=LONGEST_QUERY)]
    """What to look for, in your own words."""
    top_k: Annotated[int, Field(strict=True, ge=1, le=MOST_HITS)] = 10
    """How many hits."""
    filters: Mapping[str, Accepted] = Field(default_factory=dict)
    """Only documents with this metadata: a name with the value, or the list of values, that is accepted. Several names
    must all be met."""
    max_staleness_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How long ago what is searched may have been current. Leave it out for whatever there is."""
    at_least: Annotated[Accepted, Field(max_length=MOST_TOKENS)] = ()
    """Freshness tokens, each of a write that must be searchable. Only as they were handed out; never made up."""
    when_stale: WhenStale = WhenStale.WAIT
    """What to do where it is not as fresh as was asked: `wait`, at most wait_seconds, and then refuse; `serve` all the
    same, which freshness.met tells; or `refuse`."""
    wait_seconds: Annotated[float, Field(ge=0, le=MOST_WAIT_SECONDS)] = 2.0
    """How long to wait for data that is fresh enough."""


class RetrieveRequest(Question):
    """A search on somebody's behalf. Who asks is trusted to say on whose."""

    tenant: str | None = None
    """Documents of a tenant are found only with that tenant."""
    principals: tuple[str, ...] = ()
    """Documents with an access list are found only with one of the users or groups on it."""
    exact: Annotated[bool, Field(strict=True)] = False
    """Measure and score everything that may be seen instead of asking the indexes."""
    mode: Mode = Mode.HYBRID
    """What finds and ranks: `hybrid` (meaning and words), `dense` or `lexical` alone."""

    def asked(self) -> Query:
        return Query(
            self.query,
            self.top_k,
            self.filters,
            self.tenant,
            self.principals,
            self.exact,
            self.mode,
            self.max_staleness_seconds,
            self.at_least,
            self.when_stale,
            self.wait_seconds,
        )


@dataclass(frozen=True, slots=True)
class Views:
    """Every view of the configuration, built or not."""

    views: tuple[ViewDescription, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """The process answers. Of the index it says nothing."""

    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Ready:
    """Each of these views can be searched."""

    views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """`type` is for programs and stays as it is, `message` is for people and may change its words."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The one shape of every error."""

    error: Problem


RETRIEVAL = TypeAdapter(Retrieval)
VIEWS = TypeAdapter(Views)
HEALTH = TypeAdapter(Health)
READY = TypeAdapter(Ready)
REFUSAL = TypeAdapter(Refusal)

STATUSES: Mapping[type[LivedexError], int] = {
    # What the caller can mend.
    errors.NotFound: 404,
    errors.QueryError: 400,
    errors.ModelMismatch: 409,
    errors.TokenRefused: 400,
    errors.IllegalMove: 409,
    errors.InputRejected: 400,
    # What passes by itself.
    errors.StoreUnavailable: 503,
    errors.EmbedderUnavailable: 503,
    errors.SourceUnavailable: 503,
    errors.LeaseLost: 503,
    errors.NotFresh: 503,
    errors.BudgetSpent: 503,
    errors.TooSlow: 503,
    errors.StoreFull: 507,
    errors.StoreDamaged: 500,
    # What the owner of the index has to mend.
    errors.LivedexError: 500,
    errors.ConfigError: 500,
    errors.MissingExtra: 500,
    errors.RecipeChanged: 500,
    errors.StoreError: 500,
    errors.StoreUnsupported: 500,
    errors.StorePermission: 500,
    errors.DataDirectoryError: 500,
    errors.MigrationError: 500,
    errors.SourceError: 500,
    errors.SourceMisconfigured: 500,
    errors.SourceHeld: 500,
    errors.SchemaChanged: 500,
    errors.PositionLost: 500,
    errors.EmbedderError: 500,
    errors.EmbedderMisconfigured: 500,
    errors.WeightsUnavailable: 500,
    errors.DocumentError: 500,
}
"""Every error with its HTTP status. One that is not here yet has that of the nearest error above it."""

STATUS_TYPES: Mapping[int, str] = {
    400: "InvalidRequest",
    403: "OriginRefused",
    404: "UnknownPath",
    405: "MethodNotAllowed",
    413: "RequestTooLarge",
    415: "UnsupportedMediaType",
    421: "HostRefused",
    422: "InvalidRequest",
    500: "Unexpected",
    503: "NotReady",
}
"""What a refusal that no LivedexError stands behind is called."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal as HTTP has it. `retry_after_seconds` is a whole number, or None when asking again will not help."""

    status: int
    refusal: Refusal
    retry_after_seconds: int | None = None

    @classmethod
    def of(cls, error: LivedexError) -> Failure:
        status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
        seconds = (error.retry_after_seconds if isinstance(error, EmbedderUnavailable) else None) or RETRY_AFTER_SECONDS
        refusal = Refusal(Problem(type(error).__name__, _told(str(error))))
        return cls(status, refusal, max(1, ceil(seconds)) if status == 503 else None)

    @classmethod
    def named(cls, status: int, message: str) -> Failure:
        """One that no LivedexError stands behind."""
        return cls(status, Refusal(Problem(STATUS_TYPES.get(status, "Refused"), _told(message))))

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


def explain(problems: Iterable[ErrorDetails], asked: type[BaseModel]) -> str:
    """What is wrong with a question, each field with its fault. Says nothing of the values, which may be private."""
    return " ".join(f"{_explain(problem, asked)}." for problem in islice(problems, MOST_PROBLEMS))


def _told(text: str) -> str:
    """A message as it can be sent: what was asked may be quoted in it, however long, and with halves of characters."""
    whole = text.encode(errors="replace").decode()
    return whole if len(whole) <= LONGEST_MESSAGE else f"{whole[:LONGEST_MESSAGE]} …"


def _explain(problem: ErrorDetails, asked: type[BaseModel]) -> str:
    # FastAPI says that it is the body, and where in it JSON ends.
    place = [str(part) for part in problem["loc"] if part != "body"]
    match problem["type"]:
        case "json_invalid":
            return f"The body is not JSON: {problem.get('ctx', {}).get('error', 'it cannot be read')}"
        case "missing" if not place:
            return "The body is missing. Send a JSON object"
        case "extra_forbidden" if len(place) == 1:
            return f"{place[0]}: unknown field. Known: {', '.join(asked.model_fields)}"
        case "missing":
            return f"{'.'.join(place)}: is missing"
        case kind:
            said = _SHAPES.get(kind) or problem["msg"].removeprefix("Input ").rstrip(".")
            return f"{'.'.join(place) or 'The body'}: {said}"


_SHAPES = {
    "tuple_type": "should be a list of texts",
    "mapping_type": "should be an object",
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
}
"""Where pydantic speaks of Python's types."""
