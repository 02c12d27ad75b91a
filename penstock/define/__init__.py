"""What a user writes: frozen, plain data; nothing runs on import."""

from __future__ import annotations

from penstock.define import stats
from penstock.define.aggregate import (
    Agg,
    Aggregate,
    any,
    count,
    decayed_count,
    decayed_sum,
    distinct,
    first,
    last,
    last_n,
    max,
    mean,
    min,
    ratio,
    share,
    std,
    sum,
    variance,
)
from penstock.define.entity import Entity, entities, entity
from penstock.define.experiment import auc, endpoint, experiment, gauc, logloss
from penstock.define.function import Function, function
from penstock.define.model import ftrl, lightgbm, log1p, model, prepare, scale, trainer, vocabulary
from penstock.define.project import Definitions, load
from penstock.define.sample import label, samples
from penstock.define.source import Source, files, hive, http, kafka, source, sql
from penstock.define.stream import stream, table
from penstock.define.view import inputs, view
from penstock.define.window import lifetime, rows, this_month, this_week, this_year, today, window
from penstock.define.workflow import component, fit, on, publish, workflow

__all__ = [
    "Agg",
    "Aggregate",
    "Definitions",
    "Entity",
    "Function",
    "Source",
    "any",
    "auc",
    "component",
    "count",
    "decayed_count",
    "decayed_sum",
    "distinct",
    "endpoint",
    "entities",
    "entity",
    "experiment",
    "files",
    "first",
    "fit",
    "ftrl",
    "function",
    "gauc",
    "hive",
    "http",
    "inputs",
    "kafka",
    "label",
    "last",
    "last_n",
    "lifetime",
    "lightgbm",
    "load",
    "log1p",
    "logloss",
    "max",
    "mean",
    "min",
    "model",
    "on",
    "prepare",
    "publish",
    "ratio",
    "rows",
    "samples",
    "scale",
    "share",
    "source",
    "sql",
    "stats",
    "std",
    "stream",
    "sum",
    "table",
    "this_month",
    "this_week",
    "this_year",
    "today",
    "trainer",
    "variance",
    "view",
    "vocabulary",
    "window",
    "workflow",
]
