"""Definitions into a plan: everything checked before a single row is read."""

from __future__ import annotations

from types import MappingProxyType

from penstock.define.project import Definition, Definitions
from penstock.define.relation import Group, Joined
from penstock.define.stream import Stream, Table
from penstock.define.view import View
from penstock.define.workflow import Workflow
from penstock.errors import DefinitionError, PlanError, PlanErrors
from penstock.names import Name
from penstock.plan.expr import UserFunction
from penstock.plan.ir import GroupPlan, Plan, RelationPlan, ViewPlan
from penstock.plan.later import check_later
from penstock.plan.relations import plan_relation
from penstock.plan.scope import Scope
from penstock.plan.views import plan_view

__all__ = ["plan"]

_DEFAULT = Name("dev", "default", "main", "x")


def plan(definitions: Definitions, *, default: Name | None = None) -> Plan:
    """Checks all definitions and lays out what the engines run. Touches no data.

    Args:
        default: gives the environment, project and fork of the names.

    Raises:
        PlanError: a definition does not fit the others, with its place, what was found, and what to do.
        PlanErrors: several do not; one error each.
        DefinitionError: a name or a version is not legal.
    """
    functions = {name: UserFunction.of(function) for name, function in definitions.functions.items()}
    scope = Scope(definitions, functions, default or _DEFAULT)
    relations: dict[str, RelationPlan] = {}
    views: dict[str, ViewPlan] = {}
    not_built: dict[str, str] = {}
    errors: dict[str, PlanError] = {}
    for definition in definitions.named.values():
        try:
            _plan_one(scope, definition, relations, views, not_built)
        except DefinitionError as error:
            error.where = error.where or definition.at
            raise
        except PlanError as error:
            errors.setdefault(str(error), error)  # what rests on a wrong definition repeats its error
    if len(errors) > 1:
        raise PlanErrors(tuple(errors.values()))
    for single in errors.values():
        raise single
    return Plan(
        relations=MappingProxyType(relations),
        groups=MappingProxyType({n: r for n, r in relations.items() if isinstance(r, GroupPlan)}),
        views=MappingProxyType(views),
        not_built=MappingProxyType(not_built),
        warnings=tuple(scope.warnings),
        places=MappingProxyType({name: definition.at for name, definition in definitions.named.items()}),
    )


def _plan_one(
    scope: Scope,
    definition: Definition,
    relations: dict[str, RelationPlan],
    views: dict[str, ViewPlan],
    not_built: dict[str, str],
) -> None:
    match definition:
        case Stream() | Table() | Joined() | Group():
            relations[definition.name] = plan_relation(scope, definition)
        case View():
            views[definition.name] = plan_view(scope, definition)
        case Workflow():
            pass  # checked where components are known, above the plan
        case _:
            not_built[definition.name] = check_later(scope, definition)
