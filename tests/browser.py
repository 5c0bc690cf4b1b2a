"""Chromium for the tests that look at pages as users do."""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window; the test is skipped where the machine has none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"Chromium is missing: none of {', '.join(NAMES)} is on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        try:
            # Its sandbox refuses to run as root, as in containers, whose /dev/shm is small. It opens our pages alone.
            browser = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except Error as error:
            pytest.skip(f"{program} does not start here: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def asked_elsewhere() -> list[str]:
    """What `page` asked of other hosts than 127.0.0.1; it got no answer."""
    return []


@pytest.fixture
def page(chromium: Browser, asked_elsewhere: list[str]) -> Iterator[Page]:
    """An empty page of a browser with a fresh profile; it waits a minute for what a test expects."""

    def watch(route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.hostname == "127.0.0.1" or address.scheme in ("data", "blob"):
            route.fallback()
        else:
            asked_elsewhere.append(route.request.url)
            route.abort()

    with chromium.new_context(viewport={"width": 1200, "height": 900}) as context:
        context.set_default_timeout(60_000)
        context.route("**/*", watch)
        yield context.new_page()
