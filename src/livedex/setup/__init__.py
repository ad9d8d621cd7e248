"""A first livedex.yaml from what is there: a database's tables or a folder's files."""
