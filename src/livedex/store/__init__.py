"""The PostgreSQL that holds the index."""
