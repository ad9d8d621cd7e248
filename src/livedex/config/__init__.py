"""livedex.yaml and the environment → frozen settings. Nothing else in livedex reads either."""

from livedex.config.audit import Audit
from livedex.config.chunkers import (
    AutoChunker,
    Chunker,
    FixedChunker,
    HtmlChunker,
    MarkdownChunker,
    TextChunker,
)
from livedex.config.contracts import Contract
from livedex.config.cost import Budget, Debounce
from livedex.config.doors import McpDoor, Serve
from livedex.config.embedders import ApiEmbedder, Embedder, HashingEmbedder, LocalEmbedder
from livedex.config.expectations import Brake, Expects, NearDuplicates, TableExpects
from livedex.config.load import cache_directory, load
from livedex.config.records import Records
from livedex.config.settings import Configuration, Settings, Store
from livedex.config.sources import FilesSource, PostgresSource, Source
from livedex.config.upkeep import Upkeep
from livedex.config.views import View

__all__ = [
    "ApiEmbedder",
    "Audit",
    "AutoChunker",
    "Brake",
    "Budget",
    "Chunker",
    "Configuration",
    "Contract",
    "Debounce",
    "Embedder",
    "Expects",
    "FilesSource",
    "FixedChunker",
    "HashingEmbedder",
    "HtmlChunker",
    "LocalEmbedder",
    "MarkdownChunker",
    "McpDoor",
    "NearDuplicates",
    "PostgresSource",
    "Records",
    "Serve",
    "Settings",
    "Source",
    "Store",
    "TableExpects",
    "TextChunker",
    "Upkeep",
    "View",
    "cache_directory",
    "load",
]
