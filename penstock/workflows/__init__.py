"""Workflows: facts, edges, triggers, runs; the scheduler, the supervisor of streams, the executors."""
