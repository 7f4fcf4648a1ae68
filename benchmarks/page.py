"""The page in Chromium: what the first load brings, and how long it takes from a click or key to painted hits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks import anime, machine, questions, record
from simshard.shards.store import Store

Figures = dict[str, Any]

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
DEMO = Path(__file__).resolve().parents[1] / "examples" / "anime.json"
_ROUNDS = 40

# From the event until the frame that holds what it asked for has been painted: the task after that frame's callbacks.
_WATCH = """() => {
  const took = []
  let begun
  const begin = (event) => { begun = event.timeStamp }
  for (const kind of ["click", "input"]) addEventListener(kind, begin, true)
  const section = document.querySelector("section[aria-label=Hits]")
  new MutationObserver(() => {
    if (section.getAttribute("aria-busy") !== "false" || begun === undefined) return
    const from = begun
    begun = undefined
    const painted = new MessageChannel()
    painted.port1.onmessage = () => {
      took.push(performance.now() - from)
      window.arrived?.()
    }
    requestAnimationFrame(() => painted.port2.postMessage(0))
  }).observe(section, { attributes: true, attributeFilter: ["aria-busy"] })
  window.took = took
}"""
_WAIT = "count => new Promise((done) => { if (took.length === count) done(); else window.arrived = done })"
_LOAD = """() => {
  const [document] = performance.getEntriesByType("navigation")
  const all = [document, ...performance.getEntriesByType("resource")]
  return { bytes: all.reduce((sum, each) => sum + each.transferSize, 0), requests: all.length }
}"""


def page(folder: Path, titles: anime.Titles | None) -> record.Result:
    """The demo's catalogue, and the full matrix of the real titles, where they are there."""
    machine.run("compute", DEMO, "--store", folder / "demo")
    scale = {"demo": record.size(Store(folder / "demo")), "rounds": _ROUNDS}
    figures = {"demo, 260 titles": _visit(folder / "demo", "spirited-away", "is.type=TV")}
    if titles is not None:
        store = questions.build(folder, titles)
        scale["titles"] = record.size(store)
        seed = next(place for place, genres in enumerate(titles.genres) if genres)
        genre = quote(titles.genres[seed][0])
        name = f"{len(titles.ids):,} titles"
        figures[name] = _visit(store.root, str(titles.ids[seed]), f"has.genres={genre}")
    return record.Result(scale, figures)


def _visit(store: Path, seed: str, condition: str) -> Figures:
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("Chromium is needed for this benchmark (on Debian: apt-get install chromium)")
    with machine.Server(store, "--redis", "off", "--cache", "0") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.goto(server.url, wait_until="networkidle")
        figures: Figures = {"first load": window.evaluate(_LOAD)}
        window.goto(f"{server.url}/?like={seed}&{condition}", wait_until="networkidle")
        window.evaluate(_WATCH)
        for name, act in {"like": _like, "hide": _hide, "diversity": _diversity, "weight": _weight}.items():
            figures[f"{name}, to painted hits"] = _timed(window, act)
        browser.close()
    return figures


def _timed(window: Page, act: Any) -> dict[str, float]:
    window.evaluate("window.took.length = 0")
    for turn in range(_ROUNDS):
        act(window, turn)
        window.evaluate(_WAIT, turn + 1)
    took = np.sort(window.evaluate("window.took"))
    return {"p50_ms": round(float(np.median(took)), 1), "p95_ms": round(float(np.quantile(took, 0.95)), 1)}


def _like(window: Page, turn: int) -> None:
    """Like the best hit, and every fourth time take one out again."""
    if turn % 4 == 3:
        window.locator(".seed .remove").last.click()
    else:
        window.locator(".card").first.locator("button").first.click()


def _hide(window: Page, _: int) -> None:
    window.locator(".card").first.locator("button").last.click()


def _diversity(window: Page, turn: int) -> None:
    window.get_by_label("Diversity").fill(f"0.{1 + turn % 9}")


def _weight(window: Page, turn: int) -> None:
    window.get_by_label("Weight").first.fill(str(0.5 + turn % 7 / 2))
