"""Metadata: SQLAlchemy on SQLite."""
