"""The store: one DuckDB database that keeps what arrives as it came, with one writer and a cursor for each reader."""
