"""Headless Chromium for the tests that use pages as a user does."""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, Route, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 60_000  # on a busy machine

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless browser; the test is skipped if none is installed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"Chromium is missing: none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        try:
            # For containers: the sandbox refuses to run as root, and /dev/shm is small. Only our own pages are opened.
            browser = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except Error as error:
            pytest.skip(f"{program} does not start here: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def asked_elsewhere() -> list[str]:
    """URLs on hosts other than 127.0.0.1 that `page` requested; these requests are aborted."""
    return []


@pytest.fixture
def page(chromium: Browser, asked_elsewhere: list[str]) -> Iterator[Page]:
    """An empty page in a fresh browser profile, with a timeout of one minute."""

    def watch(route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.hostname == "127.0.0.1" or address.scheme in ("data", "blob"):
            route.fallback()
        else:
            asked_elsewhere.append(route.request.url)
            route.abort()

    with chromium.new_context(viewport={"width": 1200, "height": 900}) as context:
        context.set_default_timeout(WAIT_MS)
        context.route("**/*", watch)
        yield context.new_page()
