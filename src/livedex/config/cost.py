"""What bounds a view's cost: keys of the section `views`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from livedex.config.values import Count, Duration, Section


class Debounce(Section):
    """A document that is edited again and again is embedded once it has been quiet for a while."""

    quiet: Duration
    """How long nobody must have edited a document before its new text is embedded. Until then the old one is served."""
    at_most: Duration | None = None
    """How long a document that never is quiet waits. Without it 30 s, or five times `quiet` if that is more."""

    @model_validator(mode="after")
    def _at_most_is_longer(self) -> Self:
        if self.at_most is not None and self.at_most < self.quiet:
            raise PydanticCustomError("at_most", "has an at_most that is shorter than its quiet")
        return self

    @property
    def longest(self) -> timedelta:
        """How long a document waits at most."""
        return self.at_most or max(timedelta(seconds=30), 5 * self.quiet)


class Budget(Section):
    """How much of a view's text may be embedded in a day."""

    tokens_per_day: Count
    """Tokens from midnight UTC to midnight UTC, estimated as one for every four characters. The first load counts."""
    when_spent: Literal["pause", "lexical_only"] = "pause"
    """What happens then: `pause` serves the old texts until the next day, `lexical_only` finds the new ones by words
    until there is budget for their vectors."""


def _by_quiet(written: Any) -> Any:
    return {"quiet": written} if isinstance(written, str) else written


Debounced = Annotated[Debounce, BeforeValidator(_by_quiet)]
"""A duration alone is `quiet`."""
