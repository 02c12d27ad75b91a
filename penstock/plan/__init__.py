"""Definitions into a checked plan: names, types, expressions, lineage, layouts."""

from __future__ import annotations

from penstock.plan.ir import Plan
from penstock.plan.planner import plan

__all__ = ["Plan", "plan"]
