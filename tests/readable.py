"""Checks of a self-contained page in Chromium: its links, a phone, dark mode and A4 paper."""

import re

from playwright.sync_api import Page

from cnnlab.report.plots import SMALLEST

DESKTOP, PHONE, PAPER = 1200, 390, 688  # widths in CSS pixels; of A4 without margins
LEGIBLE = 9  # CSS pixels
CONTRAST = 4.5  # WCAG 2, level AA, text

# Fragments that do not lead to something visible. Tables are in collapsed parts of the page, which their links open.
LOST = """async () => {
  const lost = [], links = document.querySelectorAll("a[href^='#']");
  for (const hash of new Set([...links].map(link => link.getAttribute("href")))) {
    location.hash = hash;
    await new Promise(requestAnimationFrame);
    const target = document.querySelector(":target");
    if (!target || !target.getClientRects().length || target.getBoundingClientRect().top > innerHeight) lost.push(hash);
  }
  return lost;
}"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
FIGURES = """() => [...document.querySelectorAll("figure")].map(figure => {
  const image = figure.querySelector("img"), caption = figure.querySelector("figcaption");
  return [image.getBoundingClientRect().width / image.naturalWidth, caption.textContent];
})"""
BOXES = """() => [...document.querySelectorAll(".wide")].map(box => ({
  label: box.getAttribute("aria-label"), role: box.role, tab: box.tabIndex, hidden: box.scrollWidth - box.clientWidth,
  shade: getComputedStyle(box).backgroundAttachment,
}))"""
# Texts whose colour has too little contrast with the background behind them.
FAINT = """least => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const behind = part => {
    for (let at = part; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.body.querySelectorAll("*")]
    .filter(part => [...part.childNodes].some(node => node.nodeType == 3 && node.data.trim()))
    .filter(part => {
      const [low, high] = [light(parse(getComputedStyle(part).color)), light(behind(part))].sort((a, b) => a - b);
      return (high + .05) / (low + .05) < least;
    }).map(part => part.textContent);
}"""
CLOSED = """() => [...document.querySelectorAll("details")].filter(part => {
  const inside = [...part.querySelectorAll("a, th")];
  return !inside.some(each => each.checkVisibility({contentVisibilityAuto: true}));
}).map(part => part.textContent)"""
SPLIT = """() => [["h1, h2, h3", "breakAfter"], ["figure, tr", "breakInside"]].flatMap(([parts, property]) =>
  [...document.querySelectorAll(parts)].filter(part => getComputedStyle(part)[property] != "avoid")
    .map(part => part.tagName))"""


def check_in_browser(page: Page, address: str) -> None:
    """Read the page at `address` on a desktop, on a phone, in the dark and on paper; raises AssertionError."""
    page.goto(address)
    assert page.evaluate(LOST) == []
    for width in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(SIDEWAYS) == 0
        _check_figures(page)
        _check_boxes(page)
    first = next(place for place, box in enumerate(page.evaluate(BOXES)) if box["hidden"] > 0)
    box = page.locator(".wide").nth(first)
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(FAINT, CONTRAST) == []
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PAPER, "height": 1000})
    assert page.evaluate(SIDEWAYS) == 0
    assert page.evaluate(CLOSED) == []
    assert page.evaluate(SPLIT) == []


def _check_figures(page: Page) -> None:
    figures = page.evaluate(FIGURES)
    assert figures
    for number, (scale, caption) in enumerate(figures, 1):
        assert scale * SMALLEST * 150 / 72 >= LEGIBLE - 0.05, caption  # 150 pixels per inch, 72 points per inch
        assert re.match(rf"\w+ {number}\. ", caption)


def _check_boxes(page: Page) -> None:
    for box in page.evaluate(BOXES):
        assert box["label"]
        assert (box["role"], box["tab"]) == ("region", 0)
        assert "local" in box["shade"]
        assert "scroll" in box["shade"]
