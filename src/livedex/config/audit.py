"""The section `audit`: how often a running livedex compares everything it holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

from livedex.config.values import Duration, Section


def _switched(written: Any) -> Any:
    return written if written is None or isinstance(written, Mapping) else {"enabled": written}


class Audit(Section):
    """What `livedex up` does beside its work: compare sources, log and views, and repair what differs. `audit: false`
    leaves that to `livedex audit`."""

    enabled: bool = True
    """Whether `livedex up` does it."""
    every: Duration = timedelta(days=1)
    """How long after the last audit the next one begins. The first one begins so long after the index was made."""
    repair: bool = True
    """Whether what is found is repaired. Many deletions at once never are without being asked for."""


Audited = Annotated[Audit, BeforeValidator(_switched)]
"""`Audit`, for which the file may have true or false alone."""
