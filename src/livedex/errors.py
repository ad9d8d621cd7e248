"""Every error that livedex raises on purpose.

    LivedexError
    ├── ConfigError            livedex.yaml or the environment is wrong
    │   └── MissingExtra       an optional dependency is not installed
    ├── NotFound               no such view, source or document
    ├── QueryError             a search that cannot be answered as asked
    │   ├── ModelMismatch      a vector of another model than the generation's
    │   └── TokenRefused       a freshness token that this index cannot judge
    ├── NotFresh               the view is staler than was asked for, and stale hits were not wanted
    ├── IllegalMove            something is in a state in which that cannot be done
    ├── RecipeChanged          livedex.yaml asks for another recipe than the view was built with
    ├── StoreError             the PostgreSQL that holds the index
    │   ├── StoreUnavailable   not reachable, or it went away
    │   ├── StoreUnsupported   server or pgvector too old or missing
    │   ├── StorePermission    a right is missing
    │   ├── StoreFull          no space left
    │   ├── StoreDamaged       the server found something in a table or an index that cannot be
    │   ├── DataDirectoryError the embedded server's directory is in use or unreadable
    │   └── MigrationError     the schema could not be brought up to date
    ├── TooSlow                no answer in the time that whoever asked had
    ├── LeaseLost              another worker took this shard or source over
    ├── SourceError            where documents come from
    │   ├── SourceUnavailable  not reachable; tried again with backoff
    │   ├── SourceMisconfigured needs a statement or a setting before it can be followed
    │   ├── SourceHeld         the brake: so much would be deleted or emptied that a person has to agree
    │   ├── SchemaChanged      a mapped column is gone or has another type; the source pauses
    │   └── PositionLost       the source no longer has what follows our position; needs a resync
    ├── EmbedderError          what turns text into vectors
    │   ├── EmbedderUnavailable fails or throttles; tried again with backoff
    │   ├── BudgetSpent        what may be embedded a day has been
    │   ├── EmbedderMisconfigured key, model or dimensions are wrong
    │   ├── InputRejected      these texts will never be embedded
    │   └── WeightsUnavailable the local model's files are missing or damaged
    └── DocumentError          one document cannot be processed; it goes to quarantine

An error's docstring is its message when it is raised without one. `exit_code` is what the command line ends with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class LivedexError(Exception):
    """livedex could not do what was asked."""

    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class ConfigError(LivedexError):
    """The configuration is not valid."""

    exit_code = 2

    def __init__(
        self, message: str | None = None, *, file: Path | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        place = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        where = "" if key is None else f"{key}: "
        super().__init__(None if message is None else f"{place}{where}{message}")
        self.file, self.line, self.key = file, line, key


class MissingExtra(ConfigError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed. Run: pip install 'livedex[{extra}]'")


class NotFound(LivedexError):
    """There is no such thing in this index."""

    exit_code = 2


class QueryError(LivedexError):
    """The search cannot be answered as it was asked."""

    exit_code = 2


class ModelMismatch(QueryError):
    """The query vector was not made by the model of the generation that it would search."""


class TokenRefused(QueryError):
    """The freshness token is not of a source of this view, or of another history of it."""


class NotFresh(LivedexError):
    """The view is staler than the query allows. Ask again, allow more, or let the query wait or be served stale."""

    exit_code = 6


class IllegalMove(LivedexError):
    """It is in a state in which that cannot be done."""

    exit_code = 2


class RecipeChanged(LivedexError):
    """The configuration asks for another chunker or embedder than the view was built with. Undo the change in
    livedex.yaml, or give the changed view a new name so that both exist side by side."""

    exit_code = 2


class StoreError(LivedexError):
    """The store failed."""

    exit_code = 3


class StoreUnavailable(StoreError):
    """The store's PostgreSQL server cannot be reached. Check LIVEDEX_DATABASE_URL and that the server runs."""


class StoreUnsupported(StoreError):
    """The store needs PostgreSQL 15 or newer with pgvector 0.8.4 or newer."""


class StorePermission(StoreError):
    """The store's database user lacks a right that livedex needs."""


class StoreFull(StoreError):
    """The store's disk is full. Free space, then start again: nothing that was acknowledged is lost."""


class StoreDamaged(StoreError):
    """The store's server found something in a table or an index that cannot be. Run: livedex maintain, which rebuilds
    indexes that are damaged, then: livedex audit --repair"""


class DataDirectoryError(StoreError):
    """The embedded server's data directory is in use by another server or cannot be read."""


class MigrationError(StoreError):
    """The store's schema could not be brought up to date. Nothing was changed."""


class TooSlow(LivedexError):
    """There was no answer in time."""


class LeaseLost(LivedexError):
    """Another worker has taken over this shard or source; nothing was written."""


class SourceError(LivedexError):
    """The source failed."""

    exit_code = 4


class SourceUnavailable(SourceError):
    """The source cannot be reached."""


class SourceMisconfigured(SourceError):
    """The source needs a change before it can be followed."""


class SourceHeld(SourceError):
    """The source would delete or empty so many documents at once that it is more likely a mistake than meant. Nothing
    of it was taken over and the source keeps its changes. Run: livedex source resume NAME"""


class SchemaChanged(SourceError):
    """A mapped column of the source is gone or has another type. The source is paused and keeps its changes;
    adapt livedex.yaml or the table, then start again."""


class PositionLost(SourceError):
    """The source no longer holds the changes that follow the last position. Run: livedex source resync NAME"""


class EmbedderError(LivedexError):
    """The embedder failed."""

    exit_code = 5


class EmbedderUnavailable(EmbedderError):
    """The embedder fails or throttles for now."""

    def __init__(self, message: str | None = None, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class BudgetSpent(EmbedderError):
    """The view has embedded as many tokens as its budget allows for now."""


class EmbedderMisconfigured(EmbedderError):
    """The embedder's key, model or dimensions are wrong; retrying cannot help."""


class InputRejected(EmbedderError):
    """The embedder will never accept these texts. `indexes` names them within the call, empty when it cannot tell."""

    def __init__(self, message: str | None = None, *, indexes: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.indexes = tuple(indexes)


class WeightsUnavailable(EmbedderError):
    """The local model's files are missing or damaged. Run: livedex models fetch"""


class DocumentError(LivedexError):
    """The document cannot be processed."""
