"""What tests of accessibility measure on a page: axe's findings, sizes of targets, what hides the focus, where Tab goes."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

AXE = Path(__file__).resolve().parents[2] / "static" / "vendor" / "axe.min.js"

SMALL_TARGETS = """() => {
  const inText = element => {
    const block = element.closest('p, li, dd, td, th, caption, span, figcaption, h1, h2, h3, blockquote');
    return element.matches('a, code a') && getComputedStyle(element).display === 'inline' && block
      && block.textContent.trim() !== element.textContent.trim();
  };
  const boxes = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')]
    .filter(element => element.checkVisibility({visibilityProperty: true}) && !element.disabled && !inText(element))
    .map(element => {
      const own = element.getBoundingClientRect();
      const label = element.labels?.[0]?.getBoundingClientRect();
      const box = label && label.width * label.height > own.width * own.height ? label : own;
      return {element, width: box.width, height: box.height, x: box.x + box.width / 2, y: box.y + box.height / 2};
    })
    .filter(box => box.width > 1 && box.height > 1);
  const isAlone = one => boxes.every(other => other === one || other.element.contains(one.element)
    || Math.hypot(other.x - one.x, other.y - one.y) >= 24);
  return boxes.filter(box => (box.width < 23.9 || box.height < 23.9) && !isAlone(box))
    .map(box => `${box.width.toFixed(0)}x${box.height.toFixed(0)} ${box.element.outerHTML.slice(0, 120)}`);
}"""
"""Targets under 24 CSS pixels (2.5.8); links within a sentence are exempt, and what has 24 pixels to itself."""

HIDDEN_FOCUS = """() => {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return '';
  const shown = focused.labels?.[0] && focused.getBoundingClientRect().width < 24 ? focused.labels[0] : focused;
  const box = shown.getBoundingClientRect();
  const left = Math.max(box.left, 0), right = Math.min(box.right, innerWidth);
  const top = Math.max(box.top, 0), bottom = Math.min(box.bottom, innerHeight);
  if (right <= left || bottom <= top) return `outside: ${focused.outerHTML.slice(0, 120)}`;
  for (const across of [0.1, 0.5, 0.9]) for (const down of [0.1, 0.5, 0.9]) {
    const at = document.elementFromPoint(left + (right - left) * across, top + (bottom - top) * down);
    if (at && (shown.contains(at) || at.contains(focused) && !at.matches('.actions, .nav, .notices, .drawer'))) return '';
  }
  return `hidden: ${focused.outerHTML.slice(0, 120)}`;
}"""
"""What is focused and lies wholly outside of the window or behind something that stands fast (2.4.11); else empty."""

FOCUS_MARK = """() => {
  const focused = document.activeElement;
  const seen = element => {
    const style = getComputedStyle(element);
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  };
  const sibling = focused.nextElementSibling;
  return seen(focused) || Boolean(sibling && seen(sibling)) || focused.matches('main, [data-focus]') ? '' : focused.outerHTML.slice(0, 120);
}"""
"""What is focused without a visible mark (2.4.7); else empty."""


def violations(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:160]} {v['nodes'][0].get('failureSummary', '')[:200]}"
        for v in found["violations"]
        if v["impact"] in {"serious", "critical"}
    ]


def small_targets(page: Page) -> list[str]:
    return list(page.evaluate(SMALL_TARGETS))


def tab_through(page: Page, *, most: int = 150) -> tuple[list[str], list[str]]:
    """Press Tab around the page once: what was visited, in order, and what was wrong with its focus."""
    visited: list[str] = []
    wrong: list[str] = []
    page.evaluate(
        "document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex'); scrollTo(0, 0); window.tabbed = new Set()"
    )
    for _ in range(most):
        page.keyboard.press("Tab")
        state: Any = page.evaluate(
            "() => { const e = document.activeElement; if (e === document.body || tabbed.has(e)) return null;"
            " tabbed.add(e); return (e.getAttribute('aria-label') || e.textContent || e.name || '').trim().slice(0, 60) }"
        )
        if state is None:
            return visited, wrong
        visited.append(state)
        wrong += [found for script in (HIDDEN_FOCUS, FOCUS_MARK) if (found := page.evaluate(script))]
    return visited, [*wrong, f"more than {most} stops: is there a trap?"]
