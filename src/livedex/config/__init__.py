"""livedex.yaml and the environment → frozen settings. Nothing else in livedex reads either."""

from livedex.config.load import cache_directory, load
from livedex.config.settings import (
    ApiEmbedder,
    Configuration,
    HashingEmbedder,
    LocalEmbedder,
    MarkdownChunker,
    PostgresSource,
    Settings,
    Store,
    View,
)

__all__ = [
    "ApiEmbedder",
    "Configuration",
    "HashingEmbedder",
    "LocalEmbedder",
    "MarkdownChunker",
    "PostgresSource",
    "Settings",
    "Store",
    "View",
    "cache_directory",
    "load",
]
