"""The whole loop without a hand on it: simulated raters over HTTP, runs by threshold, approval through the API.

`python -m benchmarks.demo_loop` ends with one JSON line: win_rate, interval, kl, mean_length, rankings, rounds,
seconds. With `--chaos`, every process is killed with -9 on the way, and the line says what was lost (nothing).
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import psutil
from sqlalchemy import Engine, create_engine, func, select, text

from app.accounts import service as accounts
from app.accounts.models import Person
from app.db import transaction
from app.demo import oracle as oracles
from app.demo.seed import SLUG
from app.demo.simulate import make_raters
from app.guidelines.service import acknowledge
from app.projects.models import Project, Role
from app.rating.models import Ranking
from benchmarks.crew import Crew


class Site:
    """A running Attune on a data folder of its own."""

    def __init__(self, folder: Path, *, port: int) -> None:
        self.folder, self.port = folder, port
        self.url = f"http://127.0.0.1:{port}"
        environment = {k: v for k, v in os.environ.items() if k not in {"DATABASE_URL", "REDIS_URL"}}
        environment |= {"ATTUNE_DATA_DIR": str(folder), "ATTUNE_CLOCK_SECONDS": "3", "ATTUNE_RUN_LEASE_SECONDS": "12"}
        self.log = (folder.parent / "up.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--port", str(port)],
            stdout=self.log,
            stderr=self.log,
            env=environment,
            start_new_session=True,
        )

    def wait(self, *, seconds: float = 120) -> Engine:
        """Until the website answers; an engine on its database."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"attune up ended: {(self.folder.parent / 'up.log').read_text()}")
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"{self.url}/readyz", trust_env=False, timeout=2).status_code == 200:
                    return create_engine(
                        f"postgresql+psycopg://postgres@/attune?host={self._sockets()}", pool_pre_ping=True
                    )
            time.sleep(0.2)
        raise SystemExit("the website did not come up")

    def _sockets(self) -> Path:
        from app.embedded.processes import short_socket_dir

        return short_socket_dir(self.folder.resolve() / "postgres")

    def stop(self) -> None:
        """As Ctrl-C would."""
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.log.close()

    def kill(self, name: str) -> str:
        """Kill -9 one of its processes, by the id that its supervisor or server wrote down."""
        if name == "training":
            return self._kill_training()
        path = self.folder / "logs" / f"{name}.pid"
        if name == "postgres":
            path = self.folder / "postgres" / "postmaster.pid"
        if name == "valkey":
            client_pid = _valkey_pid(self._sockets())
            os.kill(client_pid, signal.SIGKILL)
            return f"valkey {client_pid}"
        pid = int(path.read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        return f"{name} {pid}"

    def _kill_training(self) -> str:
        """The process that trains, two levels below the worker of the `gpu` queue."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if "worker.trainer" in process.cmdline():
                process.kill()
                return f"training {process.pid}"
        raise ValueError("nothing trains just now")


def _valkey_pid(sockets: Path) -> int:
    import redis

    info: Any = redis.Redis(unix_socket_path=str(sockets / "valkey.sock")).info("server")
    return int(info["process_id"])


def main() -> None:
    """Run the loop and print the JSON line; exit status 1 when something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raters", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threshold", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--settings", type=json.loads, default={}, help="training settings to replace, as JSON")
    parser.add_argument("--chaos", action="store_true")
    parser.add_argument("--kill-every", type=float, default=40, help="seconds between two kills")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attune-") as scratch:
        site = Site(Path(scratch) / "data", port=free_port())
        try:
            engine = site.wait()
            result = run_loop(site, engine, arguments, began)
        finally:
            site.stop()
    print(json.dumps(result), flush=True)
    sys.exit(1 if result.get("lost") or result.get("doubled") else 0)


def run_loop(site: Site, engine: Engine, arguments: argparse.Namespace, began: float) -> dict[str, Any]:
    """Rounds of rating, training and approval; then the judgement of the oracle."""
    with transaction(engine) as session:
        project = session.scalars(select(Project).where(Project.slug == SLUG)).one()
        project.threshold = arguments.threshold
        for name, values in arguments.settings.items():
            old = project.training.get(name, {})
            project.training = {**project.training, name: {**old, **values} if isinstance(values, dict) else values}
        tokens = make_raters(session, SLUG, arguments.raters)
        for person in session.scalars(select(Person).where(Person.is_simulated)):
            acknowledge(session, project, 1, person_id=person.id)
        overseer = session.scalars(select(Person).where(Person.email == "overseer@demo.invalid")).one()
        token = accounts.create_api_token(session, overseer, name="loop", scopes=[Role.OVERSEER])[1]
    crew = Crew(site.url, SLUG, tokens, oracles.ORACLES["warm_brief"], wait_for_more=True, think_seconds=0.05)
    raters = threading.Thread(target=crew.run, daemon=True)
    raters.start()
    killer = Killer(site, every=arguments.kill_every) if arguments.chaos else None
    approved = _approve_rounds(site, token, arguments, began, killer)
    crew.stop.set()
    raters.join(30)
    result = judge(site, engine, approved, num_prompts=arguments.prompts)
    with engine.connect() as link:
        stored = set(link.scalars(select(Ranking.id)))
        result["rankings"] = link.scalar(select(func.count()).select_from(Ranking))
        query = "SELECT count(*) FROM (SELECT 1 FROM ranking GROUP BY comparison_id, rater_id, revision HAVING count(*) > 1) x"
        result["doubled"] = link.scalar(text(query))
    result["lost"] = len(set(crew.acknowledged) - stored)
    result["rounds"] = len(approved)
    result["seconds"] = round(time.monotonic() - began, 1)
    if killer:
        result["killed"] = killer.killed
    return result


class Killer:
    """Kills each kind of process once, in the middle of the work."""

    ORDER = ("web", "light", "training", "clock", "valkey", "postgres", "trainer", "training", "web", "postgres")

    def __init__(self, site: Site, *, every: float) -> None:
        self.site, self.every, self.next_at = site, every, time.monotonic() + every
        self.killed: list[str] = []

    def tick(self) -> None:
        """Kill the next one when its time has come."""
        if len(self.killed) < len(self.ORDER) and time.monotonic() >= self.next_at:
            name = self.ORDER[len(self.killed)]
            try:
                self.killed.append(self.site.kill(name))
                print(f"killed {self.killed[-1]}", file=sys.stderr, flush=True)
            except (OSError, ValueError, psutil.Error):
                pass  # Not there just now: the next tick tries again.
            self.next_at = time.monotonic() + self.every


def _approve_rounds(
    site: Site, token: str, arguments: argparse.Namespace, began: float, killer: Killer | None
) -> list[dict[str, Any]]:
    """Approve each candidate as it comes, until all rounds are through."""
    approved: list[dict[str, Any]] = []
    http = httpx2.Client(base_url=site.url, headers={"Authorization": f"Bearer {token}"}, timeout=20, trust_env=False)
    said = ""
    while len(approved) < arguments.rounds:
        if time.monotonic() - began > 60 * arguments.minutes:
            raise SystemExit(f"the loop did not end within {arguments.minutes} minutes; last: {said}")
        time.sleep(1.0)
        if killer:
            killer.tick()
        try:
            runs = http.get(f"/api/v1/projects/{SLUG}/runs?limit=3").json()
            versions = http.get(f"/api/v1/projects/{SLUG}/versions").json()
            said = _say(runs, said)
            if any(run["state"] == "failed" for run in runs):
                raise SystemExit(f"a run failed: {runs}")
            for version in versions:
                if version["state"] == "candidate":
                    body = {"decision": "approve", "reason": "The scripted overseer approves."}
                    path = f"/api/v1/projects/{SLUG}/versions/{version['id']}/decision"
                    if http.post(path, json=body).status_code == 200:
                        approved.append(version)
                        print(f"approved {version['metrics']}", file=sys.stderr, flush=True)
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            time.sleep(0.5)
    return approved


def _say(runs: list[dict[str, Any]], said: str) -> str:
    now = ", ".join(f"run {run['id']} {run['kind']} {run['state']} {run['phase']}" for run in runs[:1])
    if now != said:
        print(now, file=sys.stderr, flush=True)
    return now


def judge(site: Site, engine: Engine, approved: list[dict[str, Any]], *, num_prompts: int) -> dict[str, Any]:
    """The last approved policy against the first one, one sample each on held-out prompts, under the oracle."""
    code = "import benchmarks.judge; benchmarks.judge.main()"
    with engine.connect() as link:
        first = link.scalar(text("SELECT min(id) FROM model_version WHERE kind = 'policy'"))
        query = "SELECT messages FROM prompt WHERE split = 'heldout' ORDER BY content_hash LIMIT :n"
        prompts = list(link.scalars(text(query), {"n": num_prompts}))
    models = site.folder / "artifacts" / "models"
    job = {"first": str(models / str(first)), "last": str(models / str(approved[-1]["id"])), "prompts": prompts}
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
