"""HTTP: ingest and reads."""
