"""A folder of files as a source."""

from livedex.adapters.sources.files.source import FilesSource

__all__ = ["FilesSource"]
