"""What every component must do: a suite of tests, and a context without a scheduler to run it in."""

from penstock.testing.components.lone import LoneContext
from penstock.testing.components.suite import ComponentSuite

__all__ = ["ComponentSuite", "LoneContext"]
