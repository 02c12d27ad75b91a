"""Alembic migrations of the metadata store, run when it is opened."""
