"""What every executor must do: a suite of tests, and a place with real processes to run it in."""

from penstock.testing.executors.place import JOBS, Place
from penstock.testing.executors.suite import ExecutorSuite

__all__ = ["JOBS", "ExecutorSuite", "Place"]
