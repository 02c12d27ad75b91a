"""The metadata store on SQL: SQLite in a file by default, PostgreSQL for teams."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from penstock.clock import Clock
from penstock.errors import StoreError
from penstock.names import Fingerprint
from penstock.store.meta.interface import AuditEntry, Definition, Job, SinkRecord
from penstock.store.meta.tables import audit, definitions, jobs, sinks

__all__ = ["SqlMeta"]

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class SqlMeta:
    """Metadata in one database; processes and threads may have it open together."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock

    @classmethod
    def open(cls, url: str | Path, *, clock: Clock) -> SqlMeta:
        """Opens the database, making it and bringing it to the newest form if need be.

        Args:
            url: a path to a SQLite file, or a SQLAlchemy URL.
            clock: gives changes their time.

        Raises:
            StoreError: it cannot be opened, or a newer Penstock has changed it.
        """
        text = str(url)
        if "://" not in text:
            try:
                Path(text).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    "open the metadata", found=str(error), remedy="choose a place that can be written", where=text
                ) from error
            text = f"sqlite:///{Path(text).resolve()}"
        engine = sa.create_engine(text)
        if engine.dialect.name == "sqlite":
            _tune_sqlite(engine)
        meta = cls(engine, clock)
        try:
            with _alone(engine):
                _migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        return meta

    @property
    def engine(self) -> sa.Engine:
        """The database, for the tables of workflows (`rows_store.py`)."""
        return self._engine

    def __enter__(self) -> SqlMeta:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    def put_definition(
        self, name: str, fingerprint: Fingerprint, spec: str, *, author: str, reason: str, expect: int
    ) -> Definition:
        """Adds a version after version `expect`, 0 for the first; the same fingerprint again adds none.

        Raises:
            StoreError: the newest version is another.
        """
        with self._writing() as connection:
            newest = self._definition(connection, name, None)
            if newest is not None and newest.fingerprint == fingerprint:
                return newest
            found = 0 if newest is None else newest.version
            if found != expect:
                raise _changed(f"definition {name}", "version", expect, found)
            definition = Definition(name, found + 1, fingerprint, spec, author, reason, self._clock.now_us())
            connection.execute(definitions.insert().values(**_fields(definition)))
            return definition

    def get_definition(self, name: str, version: int | None = None) -> Definition | None:
        """A version, the newest by default; None if there is none."""
        with self._reading() as connection:
            return self._definition(connection, name, version)

    def _definition(self, connection: sa.Connection, name: str, version: int | None) -> Definition | None:
        query = sa.select(definitions).where(definitions.c.name == name).order_by(definitions.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(definitions.c.version == version)
        row = connection.execute(query).one_or_none()
        return None if row is None else Definition(*row)

    def list_definitions(self, name: str | None = None) -> list[Definition]:
        """All versions of a name in order, or the newest version of every name."""
        query = sa.select(definitions).order_by(definitions.c.name, definitions.c.version)
        if name is not None:
            query = query.where(definitions.c.name == name)
        else:
            other = definitions.alias()
            newest = sa.select(sa.func.max(other.c.version)).where(other.c.name == definitions.c.name)
            query = query.where(definitions.c.version == newest.scalar_subquery())
        with self._reading() as connection:
            return [Definition(*row) for row in connection.execute(query)]

    def put_job(self, job: str, plan: Fingerprint, state: str, *, expect: int) -> Job:
        """Sets a job's plan and state if its revision is `expect`, 0 for a new one.

        Raises:
            StoreError: its revision is another: someone else changed it.
        """
        new = Job(job, plan, state, expect + 1, self._clock.now_us())
        with self._writing() as connection:
            row = connection.execute(sa.select(jobs.c.revision).where(jobs.c.job == job)).one_or_none()
            found = 0 if row is None else int(row.revision)
            if found != expect:
                raise _changed(f"job {job}", "revision", expect, found)
            if row is None:
                connection.execute(jobs.insert().values(**_fields(new)))
            else:
                connection.execute(jobs.update().where(jobs.c.job == job).values(**_fields(new)))
        return new

    def get_job(self, job: str) -> Job | None:
        """A job, or None."""
        with self._reading() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.job == job)).one_or_none()
            return None if row is None else Job(*row)

    def list_jobs(self, state: str | None = None) -> list[Job]:
        """All jobs by name, or those in a state."""
        query = sa.select(jobs).order_by(jobs.c.job)
        if state is not None:
            query = query.where(jobs.c.state == state)
        with self._reading() as connection:
            return [Job(*row) for row in connection.execute(query)]

    def put_sink(self, table: str, topic: str, position: str, version: int) -> SinkRecord:
        """Notes how far a table follows its topic; it never goes back to an older version.

        Raises:
            StoreError: a newer version is noted.
        """
        new = SinkRecord(table, topic, position, version, self._clock.now_us())
        values = {"topic": topic, "position": position, "version": version, "updated_us": new.updated_us}
        with self._writing() as connection:
            row = connection.execute(sa.select(sinks.c.version).where(sinks.c.lake_table == table)).one_or_none()
            if row is not None and row.version > version:
                raise _changed(f"sink {table}", "version", version, int(row.version))
            if row is None:
                connection.execute(sinks.insert().values(lake_table=table, **values))
            else:
                connection.execute(sinks.update().where(sinks.c.lake_table == table).values(**values))
        return new

    def list_sinks(self) -> list[SinkRecord]:
        """All tables that follow a topic."""
        with self._reading() as connection:
            return [SinkRecord(*row) for row in connection.execute(sa.select(sinks).order_by(sinks.c.lake_table))]

    def add_audit(self, kind: str, subject: str, details: str, *, author: str, reason: str) -> AuditEntry:
        """Puts something on record."""
        values = {"kind": kind, "subject": subject, "details": details, "author": author, "reason": reason}
        at_us = self._clock.now_us()
        with self._writing() as connection:
            done = connection.execute(audit.insert().values(**values, at_us=at_us))
            assert done.inserted_primary_key is not None
            return AuditEntry(int(done.inserted_primary_key[0]), **values, at_us=at_us)

    def list_audit(self, kind: str | None = None, subject: str | None = None) -> list[AuditEntry]:
        """What is on record, oldest first."""
        query = sa.select(audit).order_by(audit.c.number)
        if kind is not None:
            query = query.where(audit.c.kind == kind)
        if subject is not None:
            query = query.where(audit.c.subject == subject)
        with self._reading() as connection:
            return [AuditEntry(*row) for row in connection.execute(query)]

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _explained(self._engine), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start, so that what it reads is still so when it writes."""
        with _explained(self._engine), self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")
            else:
                with connection.execution_options(isolation_level="SERIALIZABLE").begin():
                    yield connection


def _fields(record: Definition | Job) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _changed(what: str, counter: str, expect: int, found: int) -> StoreError:
    return StoreError(
        f"change {what} from {counter} {expect}",
        found=f"{counter} {found}",
        remedy="someone else changed it: read it again and decide anew",
    )


def _tune_sqlite(engine: sa.Engine) -> None:
    """Every connection: durable commits, readers beside a writer, and transactions begun by us, not by the driver."""

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("busy_timeout=30000", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


@contextmanager
def _explained(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise StoreError(
            "change the metadata", found=str(error.orig), remedy="read it again and decide anew"
        ) from error
    except (OperationalError, DatabaseError) as error:
        text = str(error.orig)
        full = "full" in text or "disk I/O" in text
        raise StoreError(
            "use the metadata",
            found=text,
            remedy="free space on the disk; nothing was half written" if full else "see the cause",
            where=str(engine.url.database),
        ) from error


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    """Keeps other processes from opening the same SQLite file while it is put in shape."""
    if engine.dialect.name != "sqlite":
        yield
        return
    with _explained(engine), Path(f"{engine.url.database}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        yield


def _migrate(engine: sa.Engine) -> None:
    """Brings the database to the newest form, one process at a time."""
    newest = max(path.name[1:5] for path in (_MIGRATIONS / "versions").glob("v[0-9]*.py"))
    with _explained(engine), engine.connect() as connection:
        if sa.inspect(connection).has_table("alembic_version"):
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
            if found == newest:
                return
        from alembic import command  # a third of a second, for a database that is new or old
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = connection
        try:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            command.upgrade(config, "head")
            connection.commit()
        except CommandError as error:
            raise StoreError(
                f"open metadata of form {newest}",
                found=str(error),
                remedy="use the Penstock that wrote it, or a newer one",
                where=str(engine.url.database),
            ) from error
