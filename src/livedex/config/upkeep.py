"""The section `upkeep`: what a running livedex does to keep its store small and quick."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

from livedex.config.values import Duration, Section


def _switched(written: Any) -> Any:
    return written if written is None or isinstance(written, Mapping) else {"enabled": written}


class Upkeep(Section):
    """What `livedex up` does beside its work: vacuum tables, rebuild indexes that have grown or that miss chunks, and
    let go of what is kept for a time. `upkeep: false` leaves that to `livedex maintain`."""

    enabled: bool = True
    """Whether `livedex up` does it."""
    every: Duration = timedelta(minutes=5)
    """How often it looks whether there is something to do."""
    history: Duration = timedelta(days=90)
    """How long the history of versions is kept, which `livedex lineage` reads. It goes by whole weeks."""
    tombstones: Duration = timedelta(days=7)
    """How long the log remembers that a document was deleted, once every view has read it."""


Upkept = Annotated[Upkeep, BeforeValidator(_switched)]
"""`Upkeep`, for which the file may have true or false alone."""
