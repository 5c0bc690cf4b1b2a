"""Finished runs, for the tests of what is made from them."""

from finished_runs import processed_cifar10, run_ids, top, two_seeds  # noqa: F401
