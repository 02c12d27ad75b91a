from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from penstock.clock import ReplayClock, WallClock
from penstock.errors import StoreError
from penstock.names import Fingerprint
from penstock.store.meta import Meta
from penstock.store.meta.tables import METADATA
from penstock.testing import faults

F = [Fingerprint(f"f{i}") for i in range(5)]


@pytest.fixture
def meta(tmp_path: Path, clock: ReplayClock) -> Iterator[Meta]:
    with Meta.open(tmp_path / "meta.db", clock=clock) as opened:
        yield opened


def test_definitions_are_kept_in_versions(meta: Meta, clock: ReplayClock) -> None:
    first = meta.put_definition("a", F[0], "{}", author="ada", reason="new", expect=0)
    clock.advance_to(2_000)
    second = meta.put_definition("a", F[1], "{1}", author="bob", reason="wider", expect=1)
    meta.put_definition("b", F[2], "{}", author="ada", reason="new", expect=0)
    assert (first.version, second.version, second.created_us) == (1, 2, 2_000)
    assert meta.get_definition("a") == second and meta.get_definition("a", 1) == first
    assert meta.get_definition("c") is None
    assert [(d.name, d.version) for d in meta.list_definitions()] == [("a", 2), ("b", 1)]
    assert meta.list_definitions("a") == [first, second]
    assert meta.put_definition("a", F[1], "{1}", author="cyd", reason="again", expect=0) == second
    with pytest.raises(StoreError, match="found version 2"):
        meta.put_definition("a", F[3], "{}", author="cyd", reason="late", expect=1)


def test_a_job_is_changed_by_whoever_saw_its_last_state(meta: Meta) -> None:
    job = meta.put_job("live", F[0], "starting", expect=0)
    job = meta.put_job("live", F[0], "running", expect=job.revision)
    with pytest.raises(StoreError, match="found revision 2"):
        meta.put_job("live", F[0], "stopped", expect=1)
    assert meta.get_job("live") == job and meta.list_jobs("running") == [job] and meta.list_jobs("stopped") == []


def test_sinks_do_not_go_back(meta: Meta) -> None:
    meta.put_sink("t", "topic", "[]", 3)
    record = meta.put_sink("t", "topic", "[1]", 4)
    with pytest.raises(StoreError, match="found version 4"):
        meta.put_sink("t", "topic", "[]", 3)
    assert meta.list_sinks() == [record]


def test_the_audit_keeps_everything_in_order(meta: Meta) -> None:
    one = meta.add_audit("erasure", "topic", "{}", author="@dpo", reason="asked")
    two = meta.add_audit("leak", "samples", "{}", author="ada", reason="exploring")
    assert meta.list_audit() == [one, two] and meta.list_audit("leak") == [two] and meta.list_audit(subject="x") == []


def test_writers_that_meet_count_every_change(tmp_path: Path) -> None:
    def bump(_: int) -> None:
        with Meta.open(tmp_path / "meta.db", clock=WallClock()) as meta:
            while True:
                found = meta.get_job("j")
                try:
                    meta.put_job("j", F[0], "s", expect=0 if found is None else found.revision)
                except StoreError:
                    continue
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bump, range(12)))
    with Meta.open(tmp_path / "meta.db", clock=WallClock()) as meta:
        job = meta.get_job("j")
        assert job is not None and job.revision == 12


def test_migrations_make_what_the_tables_say(meta: Meta, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'meta.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()


def test_a_newer_or_foreign_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    Meta.open(path, clock=WallClock()).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreError, match="open metadata of form"):
        Meta.open(path, clock=WallClock())
    (tmp_path / "other.db").write_bytes(b"not a database" * 500)
    with pytest.raises(StoreError, match="not a database"):
        Meta.open(tmp_path / "other.db", clock=WallClock())


WRITER = """
import os, sys
from penstock.clock import WallClock
from penstock.store.meta import Meta
done = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
with Meta.open(sys.argv[1], clock=WallClock()) as meta:
    for i in range(15):
        meta.add_audit("k", str(i), "{}", author="a", reason="r")
        os.write(done, b"%d\\n" % i)
"""


def test_a_power_cut_loses_no_acknowledged_change(tmp_path: Path) -> None:
    recorder, root, rng = faults.build_recorder(tmp_path), tmp_path / "disk", random.Random(5)
    root.mkdir()
    environment = faults.recorded_environment(recorder, root, tmp_path / "journal")
    subprocess.run(
        [sys.executable, "-c", WRITER, str(root / "meta.db"), str(root / "done")], env=environment, check=True
    )
    recording = faults.Recording.read(tmp_path / "journal", root)
    for number, at in enumerate(sorted(rng.sample(range(len(recording.events)), 12))):
        image = tmp_path / f"image-{number}"
        recording.image(at, image, rng)
        acknowledged = recording.written(root / "done", at).decode().split()
        image.mkdir(exist_ok=True)
        (image / "meta.db-shm").unlink(missing_ok=True)
        with Meta.open(image / "meta.db", clock=WallClock()) as meta:
            stored = [entry.subject for entry in meta.list_audit()]
            assert stored[: len(acknowledged)] == acknowledged and len(stored) <= len(acknowledged) + 1
