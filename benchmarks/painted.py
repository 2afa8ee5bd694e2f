"""What a rater sees of the loop: from Enter to the next comparison on the screen, in Chromium, while others rate.

    python -m benchmarks.painted --submissions 100 --raters 20 --think 1

One rater in a real browser ranks four responses by keyboard, after two seconds of reading each time (faster is flagged as too fast); the others send over
HTTP what browsers send. Two web processes on an embedded Postgres, everything on this machine. Ends with one JSON line.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from sqlalchemy import create_engine

from app import migrations
from app.embedded.postgres import start_postgres
from benchmarks import rater_loop

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NUM_COMPARISONS = 20_000
WATCH = """
performance.setResourceTimingBufferSize(5000);
window.seen = [];
let begun = 0, wasThere = false;
document.addEventListener('submit', event => {
  if (event.target.id === 'comparison') [begun, wasThere] = [performance.now(), ahead !== null];
}, true);
const painted = () => {
  if (!begun) return;
  const [from, prefetched] = [begun, wasThere];
  begun = 0;
  requestAnimationFrame(() => setTimeout(() => seen.push({ms: performance.now() - from, prefetched})));
};
for (const kind of ['attune:desk', 'htmx:after:swap']) document.addEventListener(kind, painted);
"""
"""Notes each submission: how long until the frame with the next comparison was out, and whether that lay ready."""


@dataclass
class Result:
    """Times in milliseconds, from Enter to the painted frame; `store` is the server's answer, awaited or not."""

    raters: int
    think_seconds: float
    submissions: int
    prefetched: int
    painted_median: float
    painted_p95: float
    server_share: float
    store_median: float
    store_p95: float
    errors: int


def main() -> None:
    options = _options()
    print("raters  thought  without waiting  painted p50    p95  server's share  stored p50    p95  errors")
    results = []
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        server = start_postgres(Path(folder))
        try:
            for think in options.think:
                result = with_raters(server, think=think, options=options)
                results.append(result)
                print(
                    f"{result.raters:6d} {result.think_seconds:7.1f}s {result.prefetched:8d} of {result.submissions:3d} "
                    f"{result.painted_median:13.1f} {result.painted_p95:6.1f} {result.server_share:14.0%} "
                    f"{result.store_median:12.1f} {result.store_p95:6.1f} {result.errors:7d}",
                    flush=True,
                )
        finally:
            server.stop()
    print(json.dumps([asdict(result) for result in results]))


def with_raters(server: Any, *, think: float, options: argparse.Namespace) -> Result:
    name = f"painted_{str(think).replace('.', '_')}"
    admin = create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as link:
        link.exec_driver_sql(f"CREATE DATABASE {name}")
    migrations.upgrade(server.url(name))
    engine = create_engine(server.url(name))
    rater_loop.seed(engine, options.comparisons)
    port = rater_loop.free_port()
    web = rater_loop.serve(server.url(name), port, folder=server.folder.parent)
    try:
        rater_loop.wait_for(port)
        seconds = 15 + options.submissions * (options.reading + 0.5)
        (me, _), *others = rater_loop.sign_in(engine, options.raters + 1)
        with ProcessPoolExecutor(1) as pool:
            running = pool.submit(rater_loop.load, port, others, seconds, think_seconds=think)
            seen, stored = rate(f"http://127.0.0.1:{port}", me, num=options.submissions, reading=options.reading)
            errors = running.result()[2]
    finally:
        web.terminate()
        web.wait(20)
        engine.dispose()
    return _result(seen, stored, raters=options.raters, think=think, errors=errors)


def rate(url: str, token: str, *, num: int, reading: float) -> tuple[list[dict[str, Any]], list[float]]:
    """Rank so many comparisons of four; what was noted of each submission, and how long the server took for each."""
    path = next(
        (found for name in (os.environ.get("CHROME_BIN", ""), *BROWSERS) if (found := shutil.which(name))), None
    )
    if path is None:
        raise SystemExit("This needs Chromium: install it, or set CHROME_BIN.")
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", "--no-first-run", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        page = browser.new_page(base_url=url)
        page.add_init_script(WATCH)
        page.context.add_cookies([{"name": "attune_session", "value": token, "url": url}])
        page.goto("/projects/bench/rate")
        page.keyboard.press("Enter")
        page.locator("#comparison").wait_for()
        for done in range(1, num + 1):
            page.wait_for_timeout(1000 * reading)
            for key in ("1", "2", "3", "4", "Enter"):
                page.keyboard.press(key)
            _until(page, f"seen.length >= {done}")
        _until(page, "waiting().length === 0")
        seen = page.evaluate("seen")
        posts = "performance.getEntriesByType('resource').filter(e => /rate\\/\\d+$/.test(e.name)).map(e => e.responseEnd - e.startTime)"
        stored = page.evaluate(posts)
        browser.close()
    return seen, stored


def _until(page: Page, condition: str) -> None:
    for _ in range(3000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(10)
    raise SystemExit(f"never: {condition}\n{page.locator('body').inner_text()[:2000]}")


def _result(seen: list[dict[str, Any]], stored: list[float], *, raters: int, think: float, errors: int) -> Result:
    times = [entry["ms"] for entry in seen]
    waited = sum(entry["ms"] for entry in seen if not entry["prefetched"])
    return Result(
        raters=raters,
        think_seconds=think,
        submissions=len(seen),
        prefetched=sum(entry["prefetched"] for entry in seen),
        painted_median=statistics.median(times),
        painted_p95=statistics.quantiles(times, n=20)[-1],
        server_share=waited / sum(times),
        store_median=statistics.median(stored),
        store_p95=statistics.quantiles(stored, n=20)[-1],
        errors=errors,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--raters", type=int, default=20, help="simulated raters beside the one in the browser")
    parser.add_argument(
        "--think", type=float, nargs="+", default=[2.0, 0.0], help="seconds that each of them thinks, on average"
    )
    parser.add_argument("--reading", type=float, default=2.0, help="seconds that the one in the browser reads")
    parser.add_argument("--comparisons", type=int, default=NUM_COMPARISONS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
