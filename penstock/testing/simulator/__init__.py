"""The production scheduler, store and supervisor in a simulated world, decided whole by a seed.

Only the clock, the start of processes and the transport are replaced. `python -m penstock.testing.simulator --help`.
"""

from __future__ import annotations

from penstock.testing.simulator.ledger import BrokenError
from penstock.testing.simulator.world import World, simulate

__all__ = ["BrokenError", "World", "simulate"]
