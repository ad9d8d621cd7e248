"""livedex.yaml and the environment → frozen settings. Nothing else in livedex reads either."""

from livedex.config.load import cache_directory, load
from livedex.config.settings import (
    ApiEmbedder,
    AutoChunker,
    Chunker,
    Configuration,
    FilesSource,
    FixedChunker,
    HashingEmbedder,
    HtmlChunker,
    LocalEmbedder,
    MarkdownChunker,
    McpDoor,
    PostgresSource,
    Serve,
    Settings,
    Store,
    TextChunker,
    View,
)

__all__ = [
    "ApiEmbedder",
    "AutoChunker",
    "Chunker",
    "Configuration",
    "FilesSource",
    "FixedChunker",
    "HashingEmbedder",
    "HtmlChunker",
    "LocalEmbedder",
    "MarkdownChunker",
    "McpDoor",
    "PostgresSource",
    "Serve",
    "Settings",
    "Store",
    "TextChunker",
    "View",
    "cache_directory",
    "load",
]
