"""Simulated raters: they drive the public API as people would, by an oracle's taste, with ties and mistakes.

Their rankings are marked as simulated, because the people who send them are.
"""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
from rich.console import Console
from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts import service as accounts
from app.accounts.models import Person
from app.db import transaction
from app.demo import oracle as oracles
from app.errors import AppError, NotFound
from app.projects.models import Membership, Project, Role

TIE_MARGIN = 0.25
ALL_BAD_BELOW = -1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0


@dataclass(frozen=True)
class Habits:
    """How one simulated rater judges. Who clicks at random has no oracle."""

    oracle: oracles.Score | None
    noise: float = 0.0
    think_seconds: float = 0.0
    patience_seconds: float = 120.0


@dataclass
class Tally:
    """What all raters together have done, and how much they still may; shared by their threads."""

    at_most: int = 0
    num_rankings: int = 0
    num_surplus: int = 0
    num_retries: int = 0
    seconds: float = 0.0
    _begun: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def may_begin(self) -> bool:
        """Claim one more ranking, unless there are enough."""
        with self._lock:
            if self.at_most and self._begun >= self.at_most:
                return False
            self._begun += 1
            return True

    def count(self, **changes: int) -> None:
        """Add to the numbers."""
        with self._lock:
            for name, by in changes.items():
                setattr(self, name, getattr(self, name) + by)


def simulate(
    connect: Callable[[str], httpx2.Client],
    slug: str,
    *,
    tokens: list[str],
    oracle: str = "warm_brief",
    noise: float = 0.1,
    num_rankings: int = 0,
    num_at_random: int = 0,
    think_seconds: float = 0.0,
    seed: int = 0,
) -> Tally:
    """One rater for each API token, all at once, until nothing is left for any of them or there are enough rankings.

    Args:
        connect: makes a client that sends this token.
        num_at_random: how many of the raters click without reading.
    """
    tally = Tally(at_most=num_rankings)
    started = time.monotonic()
    habits = [
        Habits(None if index < num_at_random else _oracle(oracle), noise, think_seconds) for index in range(len(tokens))
    ]

    def rate(index: int) -> None:
        with connect(tokens[index]) as client:
            SimulatedRater(client, slug, habits[index], random.Random(f"{seed}:{index}")).work(tally)

    with ThreadPoolExecutor(max_workers=max(1, len(tokens))) as pool:
        list(pool.map(rate, range(len(tokens))))
    tally.seconds = time.monotonic() - started
    return tally


@dataclass
class SimulatedRater:
    """One rater's browser-less desk."""

    client: httpx2.Client
    slug: str
    habits: Habits
    rng: random.Random

    def work(self, tally: Tally) -> None:
        """Rank until nothing is left or there are enough."""
        while tally.may_begin():
            taken = self._next(tally)
            if taken is None:
                tally.count(_begun=-1)
                return
            self._think()
            recorded = self._post(f"/assignments/{taken['id']}/ranking", self.judge(taken), tally).json()
            tally.count(num_rankings=1, num_surplus=recorded["standing"] == "surplus")

    def judge(self, taken: dict[str, Any]) -> dict[str, Any]:
        """A ranking of the responses as shown, within the project's rules."""
        rules, texts = taken["rules"], [response["text"] for response in taken["responses"]]
        answer: dict[str, Any] = {"idempotency_key": taken["idempotency_key"]}
        if self.habits.oracle is None:
            return answer | {"ranks": oracles.random_ranks(len(texts), self.rng)}
        scores = [self.habits.oracle(taken["messages"], text) for text in texts]
        margin = TIE_MARGIN if rules["allow_ties"] else -1.0
        ranks = oracles.rank(scores, noise=self.habits.noise, rng=self.rng, tie_margin=margin)
        answer |= {"ranks": ranks, "all_bad": rules["allow_all_bad"] and max(scores) < ALL_BAD_BELOW}
        if rules["ask_strength"] and len(ranks) == 2 and ranks[0] != ranks[1] and not answer["all_bad"]:
            answer["strength"] = min(4, 1 + int(abs(scores[0] - scores[1])))
        return answer

    def _next(self, tally: Tally) -> dict[str, Any] | None:
        answer = self._post("/next", None, tally, accept=(200, 204, 409))
        if answer.status_code == 409:  # A new edition of the guidelines: read it first.
            edition = self._send("GET", "/guidelines", None, tally).json()[0]["edition"]
            self._post(f"/guidelines/{edition}/acknowledge", None, tally)
            answer = self._post("/next", None, tally)
        taken: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
        return taken

    def _post(
        self, path: str, body: dict[str, Any] | None, tally: Tally, *, accept: tuple[int, ...] = (200, 204)
    ) -> httpx2.Response:
        return self._send("POST", path, body, tally, accept=accept)

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, tally: Tally, *, accept: tuple[int, ...] = (200, 204)
    ) -> httpx2.Response:
        """Send, and send again while the server is away; the idempotency key makes that safe.

        Raises:
            AppError: it was refused, or the server stayed away longer than this rater's patience.
        """
        until, pause = time.monotonic() + self.habits.patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = self.client.request(method, f"/api/v1/projects/{self.slug}{path}", json=body)
            except httpx2.TransportError as error:
                trouble = str(error) or type(error).__name__
            else:
                if answer.status_code in accept:
                    return answer
                trouble = f"{answer.status_code} {answer.text[:300]}"
                if answer.status_code not in {429, 500, 502, 503, 504}:
                    raise AppError(f"A simulated rater was refused at {path}: {trouble}")
            if time.monotonic() > until:
                raise AppError(f"A simulated rater gave up at {path}: {trouble}")
            tally.count(num_retries=1)
            time.sleep(pause * self.rng.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _think(self) -> None:
        if self.habits.think_seconds:
            time.sleep(self.rng.expovariate(1 / self.habits.think_seconds))


def make_raters(session: Session, slug: str, n: int) -> list[str]:
    """API tokens, valid for a day, of `n` simulated raters of a project; people made before are used again.

    Raises:
        NotFound: no such project.
    """
    project_id = session.scalar(select(Project.id).where(Project.slug == slug))
    if project_id is None:
        raise NotFound(f"There is no project {slug!r}; `attune project list` names them.")
    tokens = []
    for number in range(1, n + 1):
        email = f"rater-{number}@simulated.invalid"
        person = session.scalar(select(Person).where(Person.email == email))
        if person is None:
            person = accounts.create_person(session, email, name=f"Simulated rater {number}", is_simulated=True)
        joins = insert(Membership).values(project_id=project_id, person_id=person.id, role=Role.RATER)
        session.execute(joins.on_conflict_do_nothing())
        tokens.append(accounts.create_api_token(session, person, name="Simulation", scopes=["rater"], days=1)[1])
    return tokens


def over_http(url: str) -> Callable[[str], httpx2.Client]:
    """Connects to the server at this address."""

    def connect(token: str) -> httpx2.Client:
        return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    return connect


def simulate_from_terminal(
    engine: Engine,
    *,
    url: str,
    slug: str,
    num_raters: int,
    oracle: str,
    noise: float,
    num_rankings: int,
    think_seconds: float,
    console: Console,
) -> Tally:
    """What `attune simulate` does: make the raters in the database, then rate over HTTP. Of four or more, one clicks at random."""
    _oracle(oracle)
    if not 1 <= num_raters <= 200 or not 0 <= noise <= 1:
        raise AppError("Give 1 to 200 raters, and a noise from 0 to 1.")
    if num_rankings < 0 or not 0 <= think_seconds <= 3600:
        raise AppError("Give 0 or more rankings, and 0 to 3,600 seconds to think.")
    _demand_website(url)
    with transaction(engine) as session:
        tokens = make_raters(session, slug, num_raters)
    tally = simulate(
        over_http(url),
        slug,
        tokens=tokens,
        oracle=oracle,
        noise=noise,
        num_rankings=num_rankings,
        num_at_random=int(num_raters >= 4),
        think_seconds=think_seconds,
        seed=random.randrange(2**31),
    )
    console.print(
        f"{tally.num_rankings:,} rankings in {tally.seconds:.1f} s by {num_raters} raters; "
        f"{tally.num_surplus} surplus, {tally.num_retries} sent again."
    )
    return tally


def _demand_website(url: str) -> None:
    """Raters wait long for a server that is restarted; one that never was there is told at once."""
    try:
        httpx2.get(f"{url}/healthz", timeout=5, trust_env=False)
    except (httpx2.TransportError, httpx2.InvalidURL, ValueError) as error:
        raise AppError(
            f"Attune does not answer at {url} ({error}). Start it with `attune up`, or give its http address with --url."
        ) from None


def _oracle(name: str) -> oracles.Score:
    if name not in oracles.ORACLES:
        raise AppError(f"There is no oracle {name!r}: choose from {', '.join(oracles.ORACLES)}.")
    return oracles.ORACLES[name]
