"""Simulated raters who never go home: they wait for more, survive restarts of the server, and remember what was acknowledged."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from app.demo import oracle as oracles

PATIENCE_SECONDS = 120.0
IDLE_SECONDS = 3.0  # How often somebody with nothing to rank looks again.


@dataclass
class Crew:
    """Raters at work. `stop` ends them; `counts` says what they did; `acknowledged` lists the ids of stored rankings."""

    url: str
    slug: str
    tokens: list[str]
    oracle: oracles.Score
    noise: float = 0.1
    num_rankings: int = 0
    think_seconds: float = 0.0
    seed: int = 0
    wait_for_more: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    acknowledged: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Work until nothing is left, enough is done, or somebody stops it."""
        threads = [threading.Thread(target=self._work, args=pair, daemon=True) for pair in enumerate(self.tokens)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, number: int, token: str) -> None:
        rng = random.Random(self.seed * 1000 + number)
        is_clicker = len(self.tokens) >= 8 and number == len(self.tokens) - 1
        with httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        ) as http:
            while not self.stop.is_set() and not self._is_enough():
                given = self._ask(lambda: http.post(f"/api/v1/projects/{self.slug}/next"))
                if given is None or given.status_code == 204:
                    if not self.wait_for_more:
                        return
                    self.stop.wait(IDLE_SECONDS)
                    continue
                self._rank(http, given.json(), rng, is_clicker=is_clicker)

    def _rank(self, http: httpx2.Client, given: dict[str, object], rng: random.Random, *, is_clicker: bool) -> None:
        responses, messages = given["responses"], given["messages"]
        assert isinstance(responses, list)
        assert isinstance(messages, list)
        if is_clicker:
            ranks = oracles.random_ranks(len(responses), rng)
        else:
            scores = [self.oracle(messages, response["text"]) for response in responses]
            ranks = oracles.rank(scores, noise=self.noise, rng=rng)
        if self.think_seconds:
            self.stop.wait(rng.expovariate(1 / self.think_seconds))
        body = {"idempotency_key": given["idempotency_key"], "ranks": ranks}
        path = f"/api/v1/projects/{self.slug}/assignments/{given['id']}/ranking"
        answer = self._ask(lambda: http.post(path, json=body))
        if answer is not None and answer.status_code == 200:
            with self.lock:
                stored = answer.json()
                self.acknowledged.append(stored["id"])
                self.counts[stored["standing"]] += 1

    def _ask(self, send: Callable[[], httpx2.Response]) -> httpx2.Response | None:
        """Send, and send again with the same key while the server is away; None when patience ends."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.stop.is_set() and time.monotonic() < deadline:
            try:
                answer = send()
            except httpx2.HTTPError:
                self.counts["unreachable"] += 1
                self.stop.wait(0.3)
                continue
            if answer.status_code < 500:
                if answer.status_code >= 400:
                    self.counts[f"refused {answer.status_code}"] += 1
                    self.stop.wait(0.1)
                return answer if answer.status_code < 400 else None
            self.counts[f"failed {answer.status_code}"] += 1
            self.stop.wait(0.3)
        return None

    def _is_enough(self) -> bool:
        return bool(self.num_rankings) and len(self.acknowledged) >= self.num_rankings
