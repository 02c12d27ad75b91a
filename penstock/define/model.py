"""Models: preparation of columns, trainers, variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from penstock.define.sample import Samples
from penstock.define.values import check_name, here
from penstock.define.view import View
from penstock.errors import Location

__all__ = [
    "Model",
    "Prepare",
    "Trainer",
    "Transform",
    "ftrl",
    "lightgbm",
    "log1p",
    "model",
    "prepare",
    "scale",
    "trainer",
    "vocabulary",
]

Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Transform:
    """Steps applied to a column, in order: (kind, options) each. Chained with `>>`."""

    steps: tuple[tuple[str, Options], ...]

    def __rshift__(self, other: Transform) -> Transform:
        """First this, then the other."""
        return Transform(self.steps + other.steps)


def _step(kind: str, **options: Any) -> Transform:
    return Transform(((kind, tuple(sorted(options.items()))),))


def vocabulary(min_count: int = 1) -> Transform:
    """Indexes the values seen at least `min_count` times."""
    return _step("vocabulary", min_count=min_count)


def log1p() -> Transform:
    """log(1 + x)."""
    return _step("log1p")


def scale() -> Transform:
    """To mean 0 and deviation 1."""
    return _step("scale")


@dataclass(frozen=True, eq=False)
class Prepare:
    """Preparation per column; "a|b" names several."""

    columns: tuple[tuple[str, Transform], ...]
    at: Location | None = field(default=None, repr=False)


def prepare(columns: Mapping[str, Transform]) -> Prepare:
    """How columns are prepared for a model, in training and serving alike."""
    return Prepare(tuple((name, step) for names, step in columns.items() for name in names.split("|")), here())


@dataclass(frozen=True, eq=False)
class Trainer:
    """A kind of trainer and its options."""

    kind: str
    options: Options = ()


def trainer(kind: str, **options: Any) -> Trainer:
    """A trainer of any kind, a plug-in's included."""
    return Trainer(kind, tuple(sorted(options.items())))


def lightgbm(**options: Any) -> Trainer:
    """Gradient-boosted trees by LightGBM."""
    return trainer("lightgbm", **options)


def ftrl(**options: Any) -> Trainer:
    """Logistic regression by FTRL; on a stream it learns online."""
    return trainer("ftrl", **options)


@dataclass(frozen=True, eq=False)
class Model:
    """A model: samples, features, target, preparation, trainer."""

    name: str
    samples: Samples
    features: View
    target: str | None
    prepare: Prepare | None
    trainer: Trainer
    version: int = 1
    at: Location | None = field(default=None, repr=False)

    def variant(self, name: str, **changes: Any) -> Model:
        """The same model under another name with some parts changed."""
        return replace(self, name=check_name(name, "a model"), at=here(), **changes)


def model(
    name: str,
    samples: Samples,
    *,
    trainer: Trainer,
    features: View | None = None,
    target: str | None = None,
    prepare: Prepare | None = None,
    version: int = 1,
) -> Model:
    """A model on a sample set; features default to the sample set's, the target to its only label."""
    where = here()
    check_name(name, "a model", where)
    return Model(name, samples, features or samples.features, target, prepare, trainer, version, where)
