"""Shipped test tools: the oracle, conformance suites, faults, strategies."""
