"""A project with one of everything, and for each route that writes a request that it accepts."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.accounts import service as accounts
from app.accounts.deps import COOKIE
from app.accounts.models import Person, SignInSession
from app.config import get_settings
from app.db import Base, transaction
from app.exchange.models import ImportJob
from app.guidelines import service as guidelines
from app.projects.models import Membership, Project, Role
from app.prompts import service as prompts
from app.prompts.models import Comparison
from app.rating.leases import shown_order
from app.rating.models import Assignment, Ranking
from app.training.models import ModelVersion, Run

PASSWORD = "seven blue herons at dawn"
FILE = b'{"prompt": "Why?"}\n'
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Good:
    """A request that succeeds once in its world; `route` is the path as the application declares it."""

    method: str
    route: str
    form: dict[str, Any] | None = None
    json: Any = None
    file: bytes | None = None
    path: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address with its parameters filled in."""
        return self.route.format(**self.path)

    def send(self, browser: TestClient, **changed: Any) -> Any:
        """Send it, with fields `changed` where some are given."""
        if self.json is not None:
            return browser.request(self.method, self.url, json={**self.json, **changed})
        if self.file is not None:
            upload = {"file": ("rows.jsonl", self.file)}
            return browser.request(self.method, self.url, data={**(self.form or {}), **changed}, files=upload)
        return browser.request(self.method, self.url, data={**(self.form or {}), **changed})

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


@dataclass(frozen=True)
class World:
    """Who acts, and ids of what is there, in a project of its own."""

    person: Person
    project: Project
    ids: dict[str, Any]
    session: str


def make_world(db: Engine) -> World:
    """A site admin with all roles, in a project with something in each state that a route acts on."""
    number = next(_numbers)
    with transaction(db) as session:
        person, other = (_person(session, f"{name}{number}@world.example") for name in ("acts", "other"))
        project = Project(slug=f"world-{number}", name="World", auto_train=False, ask_strength=True)
        project.attributes = [{"key": "warmth", "label": "Warmth", "help": ""}]
        project.flags = [{"key": "harmful", "label": "Harmful"}]
        session.add(project)
        session.flush()
        session.add_all(
            Membership(project_id=project.id, person_id=who.id, role=role) for who in (person, other) for role in Role
        )
        for body in ("Be kind.", "Be very kind."):
            guidelines.save_draft(session, project, body=body, person_id=person.id)
            guidelines.publish(session, project, person_id=person.id)
        guidelines.acknowledge(session, project, 2, person_id=person.id)
        guidelines.save_draft(session, project, body="Be kind and brief.", person_id=person.id)
        ids = {"slug": project.slug, "edition": 1, "person_id": other.id, "other_email": other.email}
        ids |= _account(session, person, project) | _training(session, project) | _import(session, project)
        ids |= _desk(session, project, person) | _member(session, project)
        return World(person, project, ids, accounts.start_session(session, person))


def _person(session: Session, email: str) -> Person:
    person = accounts.create_person(session, email, name="Ada", is_site_admin=True)
    person.password_hash = _hash()
    return person


def _member(session: Session, project: Project) -> dict[str, Any]:
    member = accounts.create_person(session, f"member{next(_numbers)}@w.example", name="Bo")
    session.add(Membership(project_id=project.id, person_id=member.id, role="rater"))
    session.flush()
    return {"member_id": member.id}


@lru_cache
def _hash() -> str:
    """Made once: it is slow on purpose."""
    return accounts.hash_password(PASSWORD)


def _account(session: Session, person: Person, project: Project) -> dict[str, Any]:
    link = accounts.create_link(session, "invitation", project_id=project.id, roles=["rater"])
    row, _ = accounts.create_api_token(session, person, name="nightly", scopes=["rater"])
    accounts.start_session(session, person)
    other = session.scalars(select(SignInSession.id).where(SignInSession.person_id == person.id)).first()
    return {"token": link, "token_id": row.id, "session_id": other, "email": person.email}


def _training(session: Session, project: Project) -> dict[str, Any]:
    queued = Run(project_id=project.id, kind="sft", state="queued")
    failed = Run(project_id=project.id, kind="ppo", state="failed", error="The disk is full.", error_class="disk")
    states = ("serving", "candidate", "retired")
    versions = [
        ModelVersion(project_id=project.id, kind="policy", number=i, state=state, manifest_hash="a" * 64)
        for i, state in enumerate(states)
    ]
    session.add_all([queued, failed, *versions])
    session.flush()
    return {"queued": queued.id, "failed": failed.id} | {v.state: v.id for v in versions}


def _import(session: Session, project: Project) -> dict[str, Any]:
    folder = get_settings().upload_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "refused.upload").write_bytes(FILE + b"{broken\n")
    job = ImportJob(project_id=project.id, file_name="x", stored_name="refused.upload", state="refused", error="Bad.")
    session.add(job)
    session.flush()
    return {"import_id": job.id}


def _desk(session: Session, project: Project, person: Person) -> dict[str, Any]:
    """Comparisons of two: some free, some in hand (`held`), one ranked, one being corrected (`reopened`)."""
    ids: dict[str, Any] = {"held": [], "keys": []}
    prompt_id, _ = prompts.add_prompt(session, project, [{"role": "user", "content": "Why?"}])
    for i in range(10):
        texts = [prompts.add_response(session, prompt_id, f"{name} {i}", origin="imported")[0] for name in "ab"]
        comparison_id, _ = prompts.add_comparison(session, project, prompt_id, texts, origin="imported")
        if i < 7:
            assignment = _held(session, project, person, comparison_id)
            if i >= 5:
                _ranked(session, project, person, assignment, texts)
            if i == 6:
                assignment.state, ids["reopened"] = "reopened", assignment.id
            else:
                ids["held"].append(assignment.id)
                ids["keys"].append(str(assignment.idempotency_key))
    return ids | {"comparison_id": comparison_id}


def _held(session: Session, project: Project, person: Person, comparison_id: int) -> Assignment:
    session.execute(update(Comparison).where(Comparison.id == comparison_id).values(leased=1))
    order = shown_order(2, rater_id=person.id, comparison_id=comparison_id)
    assignment = Assignment(project_id=project.id, comparison_id=comparison_id, rater_id=person.id, shown_order=order)
    assignment.lease_until = session.scalar(select(func.now() + func.make_interval(0, 0, 0, 1)))  # type: ignore[assignment]
    session.add(assignment)
    session.flush()
    return assignment


def _ranked(session: Session, project: Project, person: Person, assignment: Assignment, texts: list[int]) -> None:
    places = {"project_id": project.id, "comparison_id": assignment.comparison_id, "rater_id": person.id}
    ranks = {str(response_id): rank for rank, response_id in enumerate(texts, start=1)}
    session.add(
        Ranking(
            **places,
            assignment_id=assignment.id,
            idempotency_key=assignment.idempotency_key,
            request_hash=b"",
            standing="counted",
            ranks=ranks,
            shown_order=assignment.shown_order,
            seconds=1.0,
        )
    )
    assignment.state, assignment.ranked_at = "ranked", func.now()
    counted = update(Comparison).where(Comparison.id == assignment.comparison_id)
    session.execute(counted.values(leased=0, counted=1))
    session.flush()


def enter(browser: TestClient, world: World) -> TestClient:
    """Sign the world's person in on this client."""
    browser.cookies.clear()
    browser.cookies.set(COOKIE, world.session)
    browser.headers["X-CSRF-Token"] = accounts.csrf_token(world.session)
    return browser


def page_requests(world: World) -> Iterator[Good]:
    """One for each page's form, in an order in which none spoils the next; the last ends the session."""
    ids, at = world.ids, f"/projects/{world.project.slug}"

    def good(path: str, form: dict[str, Any] | None = None, *, file: bytes | None = None, **named: Any) -> Good:
        return Good("POST", path, form=form or {}, file=file, path={"slug": ids["slug"], **named})

    rank = {"num_responses": "2", "rank-0": "1", "rank-1": "2", "note": "Brief.", "attribute-warmth-0": "1"}
    rank |= {"attribute-warmth-1": "2", "flags-0": "harmful", "seconds": "3.5"}
    yield good("/projects/{slug}/rate/{assignment_id}/leave", assignment_id=ids["reopened"])
    yield good("/projects/{slug}/members/{person_id}/link", person_id=ids["member_id"])
    yield good("/projects/{slug}/rate/{assignment_id}/draft", rank, assignment_id=ids["held"][0])
    yield good("/projects/{slug}/rate/{assignment_id}/extend", assignment_id=ids["held"][0])
    yield good(
        "/projects/{slug}/rate/{assignment_id}",
        rank | {"idempotency_key": ids["keys"][0]},
        assignment_id=ids["held"][0],
    )
    reason = {"reason": "unclear", "note": "What is asked?"}
    yield good("/projects/{slug}/rate/{assignment_id}/skip", reason, assignment_id=ids["held"][1])
    yield good("/projects/{slug}/rate-undo")
    yield good("/projects/{slug}/rate/next")
    yield good("/projects/{slug}/runs/{run_id}/cancel", run_id=ids["queued"])
    yield good("/projects/{slug}/runs/{run_id}/retry", run_id=ids["failed"])
    yield good("/projects/{slug}/runs", {"kind": "loop"})
    decision = {"decision": "approve", "reason": "It is better."}
    yield good("/projects/{slug}/versions/{version_id}/decision", decision, version_id=ids["candidate"])
    yield good("/projects/{slug}/versions/{version_id}/rollback", version_id=ids["retired"])
    yield good("/projects/{slug}/imports/{import_id}/again", import_id=ids["import_id"])
    yield good("/projects/{slug}/imports", {"format": "auto", "keep_good_lines": "on"}, file=FILE)
    yield good("/projects/{slug}/guidelines/preview", {"body": "# Be kind"})
    yield good("/projects/{slug}/guidelines/{edition}/acknowledge", edition=1)
    draft = {"body": "# Be kind", "summary": "Clearer.", "revision": "", "publish": "yes"}
    yield good("/projects/{slug}/guidelines/edit", draft)
    yield good("/projects/{slug}/settings", settings_form())
    yield good("/projects/{slug}/invitations", {"roles": ["rater", "admin"]})
    yield good("/projects/{slug}/members/{person_id}", {"roles": ["rater"]}, person_id=ids["person_id"])
    yield good("/projects/new", {"name": "Answers", "address": f"new-{at[-1]}", "template": "pairwise"})
    yield good("/account/name", {"name": "Grace"})
    yield good("/account/tokens", {"name": "weekly", "scopes": ["rater"]})
    yield good("/account/tokens/{token_id}/revoke", token_id=ids["token_id"])
    yield good("/account/sessions/{session_id}/end", session_id=ids["session_id"])
    person = {"email": "new@world.example", "name": "New", "password": PASSWORD}
    yield good("/link/{token}", person, token=ids["token"])
    yield good("/account/password", {"old_password": PASSWORD, "new_password": "nine green herons at dusk"})


def settings_form() -> dict[str, str]:
    """Some of the settings, as the form sends them."""
    return {
        "name": "World",
        "description": "All of it.",
        "base_model": "tiny",
        "threshold": "50",
        "raters_per_comparison": "2",
        "responses_per_comparison": "4",
        "lease_minutes": "30",
        "allow_ties": "on",
        "attributes": "warmth | Warmth | Is it kind?",
        "flags": "harmful | Harmful",
        "sampling.temperature": "0.9",
        "sampling.max_new_tokens": "32",
        "training.seed": "7",
        "training.heldout_share": "0.2",
        "training.ppo.learning_rate": "0.0001",
        "training.tiny.layers": "2",
    }


def api_requests(world: World) -> Iterator[Good]:
    """One for each writing route of the API."""
    ids = world.ids

    def good(method: str, path: str, json: dict[str, Any] | None = None, **named: Any) -> Good:
        return Good(method, f"/api/v1{path}", json=json or {}, path={"slug": ids["slug"], **named})

    rank = {"ranks": [1, 2], "all_bad": False, "strength": 2, "attributes": {"warmth": [1, 2]}, "note": "Brief."}
    rank["flags"] = {"0": ["harmful"]}
    at = "/projects/{slug}/assignments/{assignment_id}"
    yield good("POST", f"{at}/leave", assignment_id=ids["reopened"])
    yield good("POST", "/projects/{slug}/members/{person_id}/link", person_id=ids["member_id"])
    yield good("POST", f"{at}/draft", rank, assignment_id=ids["held"][0])
    yield good("POST", f"{at}/extend", assignment_id=ids["held"][0])
    sent = rank | {"idempotency_key": ids["keys"][0], "seconds": 3.5}
    yield good("POST", f"{at}/ranking", sent, assignment_id=ids["held"][0])
    yield good("POST", f"{at}/skip", {"reason": "unclear", "note": ""}, assignment_id=ids["held"][1])
    yield good("POST", "/projects/{slug}/undo", {"assignment_id": None})
    yield good("POST", "/projects/{slug}/next")
    yield good("POST", "/projects/{slug}/runs/{run_id}/cancel", run_id=ids["queued"])
    yield good("POST", "/projects/{slug}/runs/{run_id}/retry", run_id=ids["failed"])
    yield good("POST", "/projects/{slug}/runs", {"kind": "loop"})
    decision = {"decision": "approve", "reason": "It is better."}
    yield good("POST", "/projects/{slug}/versions/{version_id}/decision", decision, version_id=ids["candidate"])
    yield good("POST", "/projects/{slug}/versions/{version_id}/rollback", version_id=ids["retired"])
    upload = Good("POST", "/api/v1/projects/{slug}/imports", form={"format": "auto"}, file=FILE)
    upload.path["slug"] = ids["slug"]
    yield upload
    yield good("POST", "/projects/{slug}/guidelines/{edition}/acknowledge", edition=1)
    draft = {"body": "# Be kind", "summary": "Clearer.", "revision": 1}
    yield good("PUT", "/projects/{slug}/guidelines/draft", draft)
    yield good("POST", "/projects/{slug}/guidelines/publish")
    yield good("PATCH", "/projects/{slug}", changes())
    yield good("POST", "/projects/{slug}/invitations", {"roles": ["rater"]})
    yield good("PUT", "/projects/{slug}/members/{person_id}", {"roles": ["rater"]}, person_id=ids["person_id"])
    yield good("POST", "/projects", {"slug": f"api-{ids['slug']}", "name": "Answers", "template": "pairwise"})
    yield good("POST", "/people", {"email": f"n{ids['person_id']}@w.example", "name": "New", "is_site_admin": False})
    yield good("POST", "/tokens", {"name": "weekly", "scopes": ["rater"], "days": 30})
    yield good("DELETE", "/tokens/{token_id}", token_id=ids["token_id"])


def changes() -> dict[str, Any]:
    """All settings, as the API takes them."""
    return {
        "name": "World",
        "description": "All of it.",
        "responses_per_comparison": 4,
        "raters_per_comparison": 2,
        "allow_ties": True,
        "allow_all_bad": True,
        "allow_partial": False,
        "ask_strength": True,
        "attributes": [{"key": "warmth", "label": "Warmth", "help": "Is it kind?"}],
        "flags": [{"key": "harmful", "label": "Harmful"}],
        "lease_minutes": 30,
        "threshold": 50,
        "auto_train": False,
        "include_simulated": True,
        "base_model": "tiny",
        "sampling": {"temperature": 0.9},
        "training": {"ppo": {"learning_rate": 1e-4}},
    }


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the disk is gone' USING ERRCODE = '{code}'; END $$
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON "{name}"
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def refuse_commits(db: Engine, *, code: str = "58000") -> None:
    """From now on a transaction that has changed any row fails when it commits; attempts to sign in are counted."""
    with db.begin() as link:
        link.execute(text(REFUSE.format(code=code)))
        for name in Base.metadata.tables:
            if name != "rate_limit":
                link.execute(text(TRIGGER.format(name=name)))


def allow_commits(db: Engine) -> None:
    """Commits succeed again."""
    with db.begin() as link:
        link.execute(text("DROP FUNCTION refuse() CASCADE"))
