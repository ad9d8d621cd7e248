"""PostgreSQL 15 and newer as a source, through logical replication with `pgoutput`."""

from livedex.adapters.sources.postgres.slots import default_name
from livedex.adapters.sources.postgres.source import PostgresSource

__all__ = ["PostgresSource", "default_name"]
