"""Small values that a job keeps in the log: positions, journals. Each put is one durable commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import lmdb

from penstock.errors import StoreError

if TYPE_CHECKING:
    from penstock.store.log.embedded.log import EmbeddedLog

__all__ = ["JobState"]

_PREFIX: Final = b"job\0"
_MAX_KEY_BYTES: Final = 500


class JobState:
    """The values of one job, by text key."""

    def __init__(self, log: EmbeddedLog, job: str) -> None:
        self._log, self._job = log, job

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        return self._log.env.view(lambda txn: self._get(txn, key))

    def put(self, key: str, value: bytes | None, *, expect: bytes | None = None, check: bool = False) -> None:
        """Stores a value, or takes it away by None.

        Args:
            key: names the value within the job.
            value: at most a few kilobytes.
            expect: what must stand there now, if `check`.
            check: whether to compare before setting.

        Raises:
            StoreError: another value stands there, or the key is too long.
        """

        def work(txn: lmdb.Transaction) -> None:
            found = self._get(txn, key)
            if check and found != expect:
                raise StoreError(
                    f"set {key!r} of job {self._job!r} from {expect!r}",
                    found=repr(found),
                    remedy="another process changed it: read it again",
                )
            if value is None:
                txn.delete(self._key(key), db=self._log.env.db["state"])
            else:
                txn.put(self._key(key), value, db=self._log.env.db["state"])

        self._log.env.update(work)

    def list(self) -> dict[str, bytes]:
        """All values of the job."""
        prefix = self._key("")

        def work(txn: lmdb.Transaction) -> dict[str, bytes]:
            found = {}
            cursor = txn.cursor(db=self._log.env.db["state"])
            more = cursor.set_range(prefix)
            while more and bytes(cursor.key()).startswith(prefix):
                found[bytes(cursor.key())[len(prefix) :].decode()] = bytes(cursor.value())
                more = cursor.next()
            return found

        return self._log.env.view(work)

    def _key(self, key: str) -> bytes:
        packed = _PREFIX + self._job.encode() + b"\0" + key.encode()
        if len(packed) > _MAX_KEY_BYTES:
            raise StoreError(
                "the name of a job and its key have 480 bytes at most", found=repr(key[:80]), remedy="shorten them"
            )
        return packed

    def _get(self, txn: lmdb.Transaction, key: str) -> bytes | None:
        value = txn.get(self._key(key), db=self._log.env.db["state"])
        return None if value is None else bytes(value)
