"""livedex.yaml and the environment → frozen settings. Nothing else in livedex reads either."""

from livedex.config.chunkers import (
    AutoChunker,
    Chunker,
    FixedChunker,
    HtmlChunker,
    MarkdownChunker,
    TextChunker,
)
from livedex.config.doors import McpDoor, Serve
from livedex.config.embedders import ApiEmbedder, Embedder, HashingEmbedder, LocalEmbedder
from livedex.config.load import cache_directory, load
from livedex.config.settings import Configuration, Settings, Store
from livedex.config.sources import FilesSource, PostgresSource, Source
from livedex.config.views import View

__all__ = [
    "ApiEmbedder",
    "AutoChunker",
    "Chunker",
    "Configuration",
    "Embedder",
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
    "Source",
    "Store",
    "TextChunker",
    "View",
    "cache_directory",
    "load",
]
