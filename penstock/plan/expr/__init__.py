"""SQL scalar expressions: parsed and typed here, run by Arrow compute, one text at all three tempos."""

from __future__ import annotations

from penstock.plan.expr.expression import Expression, compile
from penstock.plan.expr.types import Column, Schema, Type
from penstock.plan.expr.user import UserFunction

__all__ = ["Column", "Expression", "Schema", "Type", "UserFunction", "compile"]
