"""livedex keeps a retrieval index live over data that changes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livedex.app import Index
    from livedex.app import open_index as open
    from livedex.errors import LivedexError
    from livedex.model import Hit, Query, Retrieval, Watermark

__all__ = ["Hit", "Index", "LivedexError", "Query", "Retrieval", "Watermark", "open"]

_HOMES = {
    "Hit": ("livedex.model", "Hit"),
    "Index": ("livedex.app", "Index"),
    "LivedexError": ("livedex.errors", "LivedexError"),
    "Query": ("livedex.model", "Query"),
    "Retrieval": ("livedex.model", "Retrieval"),
    "Watermark": ("livedex.model", "Watermark"),
    "open": ("livedex.app", "open_index"),
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: `livedex --help` needs neither numpy nor psycopg."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
