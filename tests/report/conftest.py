"""The shipped parameters with two seeds."""

from finished_runs import two_seeds  # noqa: F401
