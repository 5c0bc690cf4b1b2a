"""A parser for the self-contained pages that cnnlab writes."""

from html.parser import HTMLParser
from urllib.parse import unquote


class Loads(HTMLParser):
    """Collects the images that a page loads; checks that tags are closed in order and nothing external is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.language: str | None = None
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.language = values.get("lang") or self.language
        assert tag not in ("script", "link", "iframe")
        self.ids += filter(None, [values.get("id")])
        self.links += filter(None, [values.get("href")])
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "img"
        self.sources.append(dict(attrs)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def broken(self) -> list[str]:
        """Links that leave the page for anything but https or a download, or lead to no id, or to one of several."""
        inside = [unquote(link[1:]) for link in self.links if link.startswith("#")]
        outside = [link for link in self.links if not link.startswith(("#", "https://", "data:text/csv;base64,"))]
        return outside + [target for target in inside if self.ids.count(target) != 1]
