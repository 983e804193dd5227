"""The index: Parquet segments in the reader's cache, queried by an in-memory DuckDB."""
