"""The present of a live job as another process sees it: its arena mapped read-only, and the last batch committed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from penstock.algebra.arena import ArenaView
from penstock.algebra.binding import ffi
from penstock.engine.live.asof import AsOfState
from penstock.engine.live.flow import FOREVER, READABLE_BATCHES, read_name
from penstock.engine.live.groups import GroupState
from penstock.engine.live.interner import Interner
from penstock.engine.live.joins import JoinState
from penstock.engine.live.keyed import Stale
from penstock.engine.live.state import ARENA_FILE, FORMAT_VERSION, unpack_meta
from penstock.errors import EngineError, StoreError, nearest
from penstock.plan.ir import AsOfPlan, GroupPlan, JoinPlan

__all__ = ["Moment", "Present"]

_PATIENCE_S = 10.0
_LOOK_S = 0.002  # how often to look whether the job was started again: a look costs as much as a read of a key
_SEQUENCE_AT = 16  # in the arena's first page
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Moment:
    """The last batch that was committed when a read began.

    Attributes:
        positions: of each source, the next offset of every partition: the vector `a` of the answers.
        known_us: every row known at or before it is applied.
        sequence: of the arena, when the batch was committed.
        ranks: of each log, the greatest rank applied.
    """

    batch: int
    known_us: int
    positions: Mapping[str, list[int]]
    sequence: int = field(repr=False)
    ranks: Mapping[str, int] = field(repr=False)

    def rank(self, log: str) -> int:
        """What a read of rows of a log may know."""
        return self.ranks.get(log, FOREVER)


class Present:
    """Maps the state of a live job and follows it through restarts.

    Args:
        state_dir: of the live job.

    Raises:
        StoreError: there is no state there, or it is of a newer version.
    """

    def __init__(self, state_dir: Path | str) -> None:
        self.state_dir = Path(state_dir)
        self._stamp: tuple[int, int] | None = None
        self._look_s = 0.0
        self._view: ArenaView | None = None
        self._handle: Any = None
        self._pin: Any = None
        self._sequence: Any = None
        self._moment: tuple[int, Moment] | None = None
        self._states: dict[str, Any] = {}
        self._open()

    def close(self) -> None:
        """Unmaps the state."""
        self._states.clear()
        self._pin = self._sequence = None
        if self._view is not None:
            self._view.close()
            self._view = None

    @contextmanager
    def _about(self) -> Iterator[dict[str, Any]]:
        path = self.state_dir / ARENA_FILE
        try:
            yield json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise StoreError(
                "a live job keeps its state where online reads look for it",
                found="none",
                remedy="start it: penstock features live",
                where=str(path if not path.exists() else error.filename),
            ) from error
        except (ValueError, KeyError) as error:
            raise StoreError(
                "the live job says where its state is", found=repr(error), remedy="start it again", where=str(path)
            ) from error

    def _open(self) -> None:
        with self._about() as about:
            if about["format"] != FORMAT_VERSION:
                raise StoreError(
                    f"live state of format {FORMAT_VERSION}",
                    found=f"format {about['format']!r}",
                    remedy="use the Penstock that wrote it, or a newer one",
                    where=str(self.state_dir),
                )
            self.close()
            found = (self.state_dir / ARENA_FILE).stat()
            self._view = ArenaView(Path(about["path"]))
            self._roots = {name: (i + 1, kept) for i, (name, *kept) in enumerate(about["roots"])}
            self.fingerprint: str = about["fingerprint"]
            self._stamp, self._moment = (found.st_mtime_ns, found.st_ino), None
        self._map()

    def _map(self) -> None:
        """Points the kernel's handle at the mapping, anew when the arena has grown."""
        assert self._view is not None
        memory = self._view.memory
        pin = ffi.from_buffer("uint8_t[]", memory)
        if self._handle is None:
            self._handle = ffi.new("ps_arena *")
        self._handle.base, self._handle.size, self._handle.fd = pin, len(memory), -1
        self._pin, self._sequence = pin, ffi.cast("uint64_t *", pin + _SEQUENCE_AT)

    def moment(self) -> Moment:
        """The last batch committed; follows the job to a new arena soon after it was started again."""
        now_s = time.monotonic()
        if now_s > self._look_s:
            self._look_s = now_s + _LOOK_S
            found = (self.state_dir / ARENA_FILE).stat()
            if (found.st_mtime_ns, found.st_ino) != self._stamp:
                self._open()
        if self._moment is not None and self._sequence[0] - self._moment[0] in (0, 1):
            return self._moment[1]
        return self._next_moment()

    def _next_moment(self) -> Moment:
        view = self._view
        assert view is not None
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            sequence = view.sequence()
            if sequence % 2 == 0:
                data, (batch, known_us) = view.meta(), view.batch()
                if view.sequence() == sequence:
                    self._map()
                    facts = unpack_meta(data)[0] if data else {"positions": {}, "ranks": {}}  # no batch yet
                    made = Moment(batch, known_us, facts["positions"], sequence, facts["ranks"])
                    self._moment = (sequence, made)
                    return made
            if time.monotonic() > until_s:
                raise EngineError(
                    "the live job commits a batch",
                    found=f"one that has been open for {_PATIENCE_S:g} s",
                    remedy="it has died or hangs: start it again",
                    where=str(self.state_dir),
                )
            time.sleep(0.0005)

    def read(self, reading: Callable[[Moment], _T]) -> _T:
        """What `reading` finds, all of it in the state of one committed batch.

        Raises:
            EngineError: no read came through undisturbed for some time.
        """
        until_s = time.monotonic() + _PATIENCE_S
        while True:
            moment = self.moment()
            try:
                found = reading(moment)
            except Stale:
                self._map()
                found = None
            if found is not None and self.holds(moment, READABLE_BATCHES):
                return found  # no batch has yet begun to forget what was read
            if time.monotonic() > until_s:
                raise EngineError(
                    "a read sees one committed batch",
                    found=f"batches passing faster than it for {_PATIENCE_S:g} s",
                    remedy="read fewer keys at a time",
                    where=str(self.state_dir),
                )

    def holds(self, moment: Moment, batches: int) -> bool:
        """Whether all that the moment saw is still kept, where it is kept for so many batches."""
        sequence: int = self._sequence[0]
        return sequence <= moment.sequence + 2 * batches

    def follow(self) -> None:
        """Maps what has grown."""
        self._map()

    def group(self, plan: GroupPlan) -> GroupState:
        """The state of a group.

        Raises:
            EngineError: the job does not keep it, or under another definition.
        """
        made: GroupState = self._state(
            plan.name.name,
            plan.fingerprint,
            lambda root, _: GroupState(plan, self._handle, root, self._interner(), reader=True),
        )
        return made

    def join(self, plan: JoinPlan) -> JoinState:
        """The outcomes that a join keeps.

        Raises:
            EngineError: the job does not keep them, or under another definition.
        """
        made: JoinState = self._state(
            plan.name.name,
            plan.fingerprint,
            lambda root, _: JoinState(plan, self._handle, root, self._interner(), reader=True),
        )
        return made

    def asof(self, plan: AsOfPlan) -> AsOfState:
        """The versions that an as-of read looks at.

        Raises:
            EngineError: the job does not keep them.
        """
        made: AsOfState = self._state(
            read_name(plan),
            plan.fingerprint,
            lambda root, columns: AsOfState(plan, columns, self._handle, root, self._interner(), reader=True),
        )
        return made

    def _interner(self) -> Interner:
        if "" not in self._states:
            self._states[""] = Interner(self._handle, 0, reader=True)
        made: Interner = self._states[""]
        return made

    def _state(self, name: str, fingerprint: str, make: Callable[[int, list[str]], Any]) -> Any:
        if name in self._states:
            return self._states[name]
        if name not in self._roots:
            raise EngineError(
                f"the live job keeps {name}",
                found="it does not",
                remedy=f"serve it: {nearest(name, [n for n in self._roots if not n.startswith('asof:')])}",
                where=str(self.state_dir),
            )
        root, (kept, *columns) = self._roots[name]
        if kept != fingerprint:
            raise EngineError(
                f"the live job keeps {name} as these definitions say",
                found="another version of it",
                remedy="read with the definitions that the job runs, or start a job with these",
                where=str(self.state_dir),
            )
        self._states[name] = make(root, columns)
        return self._states[name]
