"""Chromium for the tests that look at pages as users do."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window; the test is skipped where the machine has none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"No browser: none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)")
    with (
        sync_playwright() as playwright,
        # Its sandbox refuses to run as root, as in containers; it opens our own pages alone.
        playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]) as browser,
    ):
        yield browser
