"""An index on disk: DuckDB tables (the truth), a tantivy full-text index and a manifest."""
