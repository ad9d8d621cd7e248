"""The section `record`: what is remembered of searches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

from livedex.config.values import Duration, Section


def _switched(written: Any) -> Any:
    return written if written is None or isinstance(written, Mapping) else {"enabled": written}


class Records(Section):
    """What is remembered of each search, for `livedex replay`. `record: false` remembers nothing but how many there
    were."""

    enabled: bool = True
    """Whether searches are recorded."""
    keep: Duration = timedelta(days=7)
    """How long. From then on a record is not shown any more; it is deleted by the hour, or with its day when `keep` is
    two days or more."""
    text: bool = True
    """Whether a record holds the query's text, its filters' values and the hits' texts. Without them it holds a keyed
    hash of the query, and which chunks of which documents were found: it cannot be replayed."""


Recording = Annotated[Records, BeforeValidator(_switched)]
"""`Records`, for which the file may have true or false alone."""
