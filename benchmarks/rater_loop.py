"""The rater's loop over HTTP as the browser does it: take a comparison, submit the form, get the next one.

    python -m benchmarks.rater_loop --comparisons 2000 20000 100000 --raters 1 8 20

Two web processes on an embedded Postgres with its ordinary settings (fsync on). The load generator runs on the same
machine, and so do the database and both web processes. Ends with a table, and one JSON line.
"""

import argparse
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.orm import Session

import app.tables  # noqa: F401
from app import migrations
from app.accounts import service as accounts
from app.accounts.models import Person
from app.embedded.postgres import start_postgres
from app.projects.models import Membership, Project, Role

K, WANTED, WARM_UP_SECONDS = 4, 3, 2.0
WORDS = "the guest asked for a room with a view and the concierge answered at length about **parking** and breakfast "


@dataclass
class Result:
    """One row of the table. Latencies are in milliseconds, CPU in milliseconds per rating."""

    comparisons: int
    raters: int
    per_second: float
    submit_median: float
    submit_p95: float
    next_median: float
    web_cpu: float
    database_cpu: float
    client_cpu: float
    errors: int
    over_wanted: int


def main() -> None:
    options = _options()
    results = []
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        server = start_postgres(Path(folder))
        try:
            for size in options.comparisons:
                results += _with_size(server, size, options)
        finally:
            server.stop()
    print(json.dumps([asdict(result) for result in results]))


def _with_size(server, size: int, options: argparse.Namespace) -> list[Result]:
    name = f"bench_{size}"
    admin = create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as link:
        link.execute(text(f"CREATE DATABASE {name}"))
    migrations.upgrade(server.url(name))
    engine = create_engine(server.url(name))
    seed(engine, size)
    port = free_port()
    web = serve(server.url(name), port, folder=server.folder.parent)
    results = []
    try:
        wait_for(port)
        idle = max(_memory(child) for child in psutil.Process(web.pid).children(recursive=True) or [])
        print(f"\n{size:,} comparisons; largest web process {idle:.0f} MiB idle")
        print("raters  ratings/s  submit p50   p95   next p50   CPU ms/rating web + database (client)  errors  over")
        for number in options.raters:
            result = _measure(engine, web.pid, server.pid, port, size=size, raters=number, seconds=options.seconds)
            results.append(result)
            print(
                f"{number:6d} {result.per_second:10.1f} {result.submit_median:11.1f} {result.submit_p95:6.1f} "
                f"{result.next_median:10.1f} {result.web_cpu:10.1f} + {result.database_cpu:.1f} "
                f"({result.client_cpu:.1f}) {result.errors:18d} {result.over_wanted:5d}",
                flush=True,
            )
    finally:
        web.terminate()
        web.wait(20)
        engine.dispose()
    with admin.connect() as link:
        link.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    return results


def _measure(engine, web_pid: int, postgres_pid: int, port: int, *, size: int, raters: int, seconds: float) -> Result:
    people = sign_in(engine, raters)
    with ProcessPoolExecutor(1) as pool:  # The load has an interpreter of its own.
        running = pool.submit(load, port, people, seconds + WARM_UP_SECONDS)
        time.sleep(WARM_UP_SECONDS)
        begun, before = time.monotonic(), (_cpu(web_pid), _cpu(postgres_pid), _count(engine))
        client_before = sum(_cpu(pid) for pid in pool._processes)
        time.sleep(seconds - 0.3)
        took, after = time.monotonic() - begun, (_cpu(web_pid), _cpu(postgres_pid), _count(engine))
        client = sum(_cpu(pid) for pid in pool._processes) - client_before
        submits, nexts, errors = running.result()
    num = max(1, after[2] - before[2])
    return Result(
        comparisons=size,
        raters=raters,
        per_second=num / took,
        submit_median=1000 * statistics.median(submits),
        submit_p95=1000 * statistics.quantiles(submits, n=20)[-1],
        next_median=1000 * statistics.median(nexts),
        web_cpu=1000 * (after[0] - before[0]) / num,
        database_cpu=1000 * (after[1] - before[1]) / num,
        client_cpu=1000 * client / num,
        errors=errors,
        over_wanted=_over_wanted(engine),
    )


def load(
    port: int, people: list[tuple[str, str]], seconds: float, *, think_seconds: float = 0.0
) -> tuple[list[float], list[float], int]:
    """Every rater in a thread. Times of submits, of `next` on its own (after a skip, one in ten), and errors."""
    submits: list[float] = []
    nexts: list[float] = []
    errors: list[str] = []
    until = time.monotonic() + seconds

    def rate(person: tuple[str, str]) -> None:
        browser = Browser(port, *person)
        try:
            shown = browser.take_next()
            while time.monotonic() < until:
                if think_seconds:
                    time.sleep(min(random.expovariate(1 / think_seconds), 4.0))  # The server keeps idle links for 5 s.
                begun = time.perf_counter()
                shown = browser.submit(shown)
                submits.append(time.perf_counter() - begun)
                if len(submits) % 10 == 0:
                    begun = time.perf_counter()
                    browser.let_go(shown)
                    begun = time.perf_counter()
                    shown = browser.take_next()
                    nexts.append(time.perf_counter() - begun)
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=rate, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        print(errors[:3], file=sys.stderr)
    return submits, nexts, len(errors)


class Browser:
    """What htmx sends: cookie, CSRF header, form fields; what it reads: the fragment with the next form."""

    def __init__(self, port: int, cookie: str, csrf: str) -> None:
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.api = None
        self.headers = {
            "Cookie": f"attune_session={cookie}",
            "X-CSRF-Token": csrf,
            "HX-Request": "true",
            "Content-Type": "application/x-www-form-urlencoded",
        }

    def take_next(self) -> str:
        return self._post("/projects/bench/rate/next", {})

    def submit(self, shown: str) -> str:
        fields = {f"rank-{place}": str(1 + place) for place in range(K)}
        action = _action(shown)
        fields["idempotency_key"] = re.search(r'name="idempotency_key" value="([^"]+)"', shown)[1]
        return self._post(action, fields)

    def let_go(self, shown: str) -> None:
        """Rank over the API, which does not take the next one, so that `next` can be timed alone."""
        headers = self.headers | {"Content-Type": "application/json"}
        key = re.search(r'name="idempotency_key" value="([^"]+)"', shown)[1]
        number = _action(shown).rsplit("/", 1)[-1]
        body = json.dumps({"idempotency_key": key, "ranks": [1, 2, 3, 4]})
        self._send(f"/api/v1/projects/bench/assignments/{number}/ranking", body, headers)

    def _post(self, path: str, fields: dict[str, str]) -> str:
        return self._send(path, urllib.parse.urlencode(fields), self.headers)

    def _send(self, path: str, body: str, headers: dict[str, str]) -> str:
        self.link.request("POST", path, body, headers)
        answer = self.link.getresponse()
        read = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {read[:200]}")
        return read


def _action(shown: str) -> str:
    found = re.search(r'<form id="comparison"[^>]* action="([^"]+)"', shown)
    if found is None:
        raise RuntimeError(f"no comparison: {' '.join(re.sub('<[^>]+>', ' ', shown).split())[:200]}")
    return found[1]


def seed(engine, size: int) -> None:
    """Comparisons of four responses of about 60 words each."""
    with Session(engine) as session, session.begin():
        project = Project(slug="bench", name="Bench", auto_train=True, threshold=200)
        session.add(project)
        session.flush()
        values = {"project": project.id, "n": size, "k": K, "wanted": WANTED, "words": WORDS}
        for statement in SEED:
            session.execute(text(statement), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as link:
        link.execute(text("VACUUM ANALYZE"))


SEED = [
    """INSERT INTO prompt (project_id, content_hash, messages, split)
       SELECT :project, int8send(i), jsonb_build_array(jsonb_build_object('role', 'user', 'content',
              'Question ' || i || ': ' || :words)), 'train' FROM generate_series(1, :n) i""",
    """INSERT INTO response (prompt_id, content_hash, text, origin, source, sampling)
       SELECT id, int8send(j), 'Answer ' || j || ' to ' || id || '. ' || repeat(:words, 3), 'imported', '', '{}'
       FROM prompt, generate_series(1, :k) j""",
    """INSERT INTO comparison (project_id, prompt_id, content_hash, state, wanted, leased, counted, queue_key, origin)
       SELECT :project, id, content_hash, 'open', :wanted, 0, 0, id, 'imported' FROM prompt""",
    """INSERT INTO comparison_response (comparison_id, position, response_id)
       SELECT c.id, row_number() OVER (PARTITION BY c.id ORDER BY r.id) - 1, r.id
       FROM comparison c JOIN response r ON r.prompt_id = c.prompt_id""",
]


def sign_in(engine, number: int) -> list[tuple[str, str]]:
    made = []
    with Session(engine) as session, session.begin():
        project_id = session.scalars(select(Project.id)).one()
        for _ in range(number):
            count = session.scalar(select(func.count()).select_from(Person))
            person = accounts.create_person(session, f"rater{count}@example.org", name=f"Rater {count}")
            session.add(Membership(project_id=project_id, person_id=person.id, role=Role.RATER))
            token = accounts.start_session(session, person)
            made.append((token, accounts.csrf_token(token)))
    return made


def serve(database_url: str, port: int, *, folder: Path) -> subprocess.Popen:
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "ATTUNE_DATA_DIR": str(folder),
        "ATTUNE_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--workers", "2"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)


def wait_for(port: int) -> None:
    for _ in range(150):
        try:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            link.request("GET", "/healthz")
            link.getresponse().read()
            time.sleep(2)
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the website did not start")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _cpu(pid: int) -> float:
    """Processor seconds of a process and all its descendants; those that ended in between are lost."""
    total = 0.0
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def _memory(process: psutil.Process) -> float:
    return process.memory_full_info().uss / 2**20


def _count(engine) -> int:
    with engine.connect() as link:
        return int(link.execute(text("SELECT sum(counted) FROM comparison WHERE counted > 0")).scalar() or 0)


def _over_wanted(engine) -> int:
    """Comparisons with more counted rankings than asked for, from the rankings themselves."""
    with engine.connect() as link:
        return link.execute(
            text(
                "SELECT count(*) FROM (SELECT comparison_id FROM ranking WHERE standing = 'counted' "
                "GROUP BY 1 HAVING count(*) > :wanted) over_wanted"
            ),
            {"wanted": WANTED},
        ).scalar_one()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, nargs="+", default=[2_000, 20_000, 100_000])
    parser.add_argument("--raters", type=int, nargs="+", default=[1, 8, 20])
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
