"""A project with one of everything, and for each route that writes a request that it accepts."""

import itertools
import uuid
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
from app.chat.models import Chat, ChatEndpoint, ChatReply, ChatTurn
from app.config import get_settings
from app.db import Base, transaction
from app.exchange.models import ImportJob
from app.guidelines import service as guidelines
from app.projects.models import Membership, Project, Role
from app.prompts import service as prompts
from app.prompts.models import Comparison
from app.rating.contact_models import Report, Thread
from app.rating.leases import shown_order
from app.rating.models import Assignment, Ranking
from app.teaching import lessons, quiz, rulings
from app.training.models import ModelVersion, Run
from app.writing import service as writing
from app.writing.models import WritingTask

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
        project = Project(slug=f"world-{number}", name="World", auto_train=False, ask_strength=True, allow_chat=True)
        project.attributes = [{"key": "warmth", "label": "Warmth", "help": ""}]
        project.flags = [{"key": "harmful", "label": "Harmful"}]
        project.reasons, project.ask_likert = [{"key": "clear", "label": "Clearer"}], True
        project.allow_edit = True
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
        ids |= _chats(session, project, person)
        ids |= _teaching(session, project, person) | _writing(session, project, person)
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
    about = {"project_id": project.id, "comparison_id": comparison_id, "rater_id": person.id}
    report, thread = Report(**about, reason="unsafe"), Thread(**about, waits_for="rater")
    session.add_all([report, thread])
    session.flush()
    ids |= {"report": report.id, "thread": thread.id}
    return ids | {"comparison_id": comparison_id, "prompt_id": prompt_id}


def _writing(session: Session, project: Project, person: Person) -> dict[str, Any]:
    """A prompt in hand, one that is written to, and one to be skipped."""
    project.demonstrations_per_prompt = 3
    ids = {}
    for name, state in (("in_hand", "leased"), ("written", "expired"), ("to_skip", "expired")):
        prompt_id, _ = prompts.add_prompt(session, project, [{"role": "user", "content": f"Write about {name}."}])
        task = WritingTask(project_id=project.id, prompt_id=prompt_id, writer_id=person.id, state=state)
        task.lease_until = session.scalar(select(func.now() + func.make_interval(0, 0, 0, 1)))  # type: ignore[assignment]
        session.add(task)
        session.flush()
        ids[name] = task.id
    key = uuid.uuid4()
    writing.submit(session, project, person, task_id=ids["written"], text="Once.", idempotency_key=key)
    return ids | {"writing_key": str(uuid.uuid4())}


def _teaching(session: Session, project: Project, person: Person) -> dict[str, Any]:
    """Two practice comparisons, one free to be made one, and two questions of a quiz that is open to this person."""
    prompt_id, _ = prompts.add_prompt(session, project, [{"role": "user", "content": "Why practise?"}])
    ids: dict[str, Any] = {"lessons": [], "questions": []}
    for i in range(3):
        texts = [prompts.add_response(session, prompt_id, f"{name} {i}", origin="imported")[0] for name in "cd"]
        ids["free"], _ = prompts.add_comparison(session, project, prompt_id, texts, origin="imported")
        if i < 2:
            lesson = lessons.write_lesson(
                session, project, comparison_id=ids["free"], ranks=[1, 2], explanation="**True**.", person_id=person.id
            )
            ids["lessons"].append(lesson.id)
    for body in ("What comes first?", "What comes last?"):
        question = quiz.write_question(
            session, project, kind="choice", body=body, options=["Truth", "Style"], correct=0, explanation="Rule 1.",
            person_id=person.id,
        )  # fmt: skip
        ids["questions"].append(question.id)
    project.quiz_required, project.quiz_tries = True, 20
    rulings.rule(session, project, person.id, kind="pass", person_id=person.id)
    return ids


def _held(session: Session, project: Project, person: Person, comparison_id: int) -> Assignment:
    session.execute(update(Comparison).where(Comparison.id == comparison_id).values(leased=1))
    order = shown_order(2, rater_id=person.id, comparison_id=comparison_id)
    assignment = Assignment(project_id=project.id, comparison_id=comparison_id, rater_id=person.id, shown_order=order)
    assignment.lease_until = session.scalar(select(func.now() + func.make_interval(0, 0, 0, 1)))  # type: ignore[assignment]
    session.add(assignment)
    session.flush()
    return assignment


def _chats(session: Session, project: Project, person: Person) -> dict[str, Any]:
    """Five chats (`chats`, `turns`): ready to choose, ready for a draft or new replies, broken off, chosen and to be
    reported, chosen and to go on; and an endpoint that nobody answers at.
    """
    ids: dict[str, Any] = {"chats": [], "turns": [], "turn_keys": []}
    endpoint = ChatEndpoint(project_id=project.id, name="Elsewhere", base_url="http://127.0.0.1:9/v1", model="m")
    gone = ChatEndpoint(project_id=project.id, name="Gone", base_url="http://127.0.0.1:9/v1", model="m")
    session.add_all([endpoint, gone])
    session.flush()
    for state in ("done", "done", "failed", "report", "chosen"):
        chat = Chat(project_id=project.id, rater_id=person.id, start_key=uuid.uuid4(), is_red_team=state == "report")
        session.add(chat)
        session.flush()
        is_chosen = state in {"report", "chosen"}
        turn = ChatTurn(chat_id=chat.id, number=1, text="Why?", say_key=uuid.uuid4())
        turn.state, turn.chosen_place = ("chosen", 0) if is_chosen else ("open", None)
        session.add(turn)
        session.flush()
        for place in range(2):
            reply = ChatReply(turn_id=turn.id, round=1, place=place, endpoint_id=endpoint.id, source="Elsewhere")
            reply.sampling, reply.text = {"temperature": 1.0, "max_new_tokens": 8}, f"Because {place}."
            reply.state, reply.finish_reason = "done" if state != "failed" else "failed", "stop"
            session.add(reply)
        ids["chats"].append(chat.id)
        ids["turns"].append(turn.id)
        ids["turn_keys"].append(str(turn.key))
    session.flush()
    return ids | {"endpoint": endpoint.id, "gone": gone.id}


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
    rank |= {"reasons": "clear", "likert-0": "6", "likert-1": "3", "edit": "Better."}
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
    asked, why = {"text": "Is it about the hotel?"}, {"reason": "unsafe", "words": "It names somebody."}
    yield good("/projects/{slug}/rate/{assignment_id}/ask", asked, assignment_id=ids["held"][2])
    yield good("/projects/{slug}/rate/{assignment_id}/report", why, assignment_id=ids["held"][2])
    yield good("/projects/{slug}/my-questions/seen")
    yield good("/projects/{slug}/my-questions/{thread_id}", {"text": "And the pool?"}, thread_id=ids["thread"])
    yield good("/projects/{slug}/inbox/questions/{thread_id}", {"text": "Yes."}, thread_id=ids["thread"])
    decided = {"decision": "keep", "note": "It is fine."}
    yield good("/projects/{slug}/inbox/reports/{report_id}", decided, report_id=ids["report"])
    yield good("/projects/{slug}/my-care", {"categories": ["hate"]})
    marks = {"warnings": ["violence"]}
    yield good("/projects/{slug}/comparisons/{comparison_id}/warnings", marks, comparison_id=ids["comparison_id"])
    yield good("/projects/{slug}/rate-undo")
    yield good("/projects/{slug}/rate/next")
    yield good("/projects/{slug}/rate/ahead")
    chats, at_turn = ids["chats"], "/projects/{slug}/chat/{chat_id}/turns/{turn_id}"
    places = [{"chat_id": chat, "turn_id": turn} for chat, turn in zip(chats, ids["turns"], strict=True)]
    yield good(f"{at_turn}/draft", {"choice": "a2", "num_responses": "2"}, **places[1])
    choice = {"choice": "b3", "num_responses": "2", "idempotency_key": ids["turn_keys"][0], "seconds": "2"}
    yield good(f"{at_turn}/choice", choice, **places[0])
    yield good(f"{at_turn}/regenerate", {"round": "1"}, **places[1])
    yield good(f"{at_turn}/retry", **places[2])
    yield good(f"{at_turn}/report", {"rule": "harmful", "severity": "2", "note": "By asking twice."}, **places[3])
    say = {"text": "And then?", "idempotency_key": str(uuid.uuid4())}
    yield good("/projects/{slug}/chat/{chat_id}/turns", say, chat_id=chats[4])
    yield good("/projects/{slug}/chat/{chat_id}/end", chat_id=chats[1])
    yield good("/projects/{slug}/chat", {"text": "Where is it?", "idempotency_key": str(uuid.uuid4())})
    endpoint = {"name": "Other", "base_url": "http://127.0.0.1:9/v1", "model": "m", "key": "k", "temperature": "0.5"}
    endpoint |= {"weight": "1", "is_enabled": "on"}
    yield good("/projects/{slug}/endpoints", endpoint)
    yield good("/projects/{slug}/endpoints/{endpoint_id}", endpoint | {"name": "Here"}, endpoint_id=ids["endpoint"])
    yield good("/projects/{slug}/endpoints/{endpoint_id}/try", endpoint_id=ids["endpoint"])
    yield good("/projects/{slug}/endpoints/{endpoint_id}/remove", endpoint_id=ids["gone"])
    written = {"text": "It **is** so.", "idempotency_key": ids["writing_key"]}
    yield good("/projects/{slug}/write/{task_id}/draft", {"text": "It is"}, task_id=ids["in_hand"])
    yield good("/projects/{slug}/write/{task_id}", written, task_id=ids["in_hand"])
    reason = {"reason": "unclear", "note": "What is asked?"}
    yield good("/projects/{slug}/write/{task_id}/skip", reason, task_id=ids["to_skip"])
    again = {"text": "Twice.", "idempotency_key": str(uuid.uuid4())}
    yield good("/projects/{slug}/my-demonstrations/{task_id}", again, task_id=ids["written"])
    yield good("/projects/{slug}/write/preview", {"text": "# So"})
    yield good("/projects/{slug}/write/next")
    order = {"num_responses": "2", "rank-0": "1", "rank-1": "2", "idempotency_key": str(uuid.uuid4())}
    yield good("/projects/{slug}/practice/{lesson_id}", order, lesson_id=ids["lessons"][0])
    chosen = {f"question-{question_id}": "0" for question_id in ids["questions"]}
    yield good("/projects/{slug}/quiz", chosen | {"idempotency_key": str(uuid.uuid4())})
    lesson = {"rank-0": "2", "rank-1": "1", "explanation": "It is *shorter*."}
    yield good("/projects/{slug}/teaching/lessons", lesson | {"comparison_id": str(ids["free"])})
    yield good("/projects/{slug}/teaching/lessons/{lesson_id}", lesson, lesson_id=ids["lessons"][0])
    yield good("/projects/{slug}/teaching/lessons/{lesson_id}/remove", lesson_id=ids["lessons"][1])
    yield good("/projects/{slug}/teaching/preview", {"explanation": "# Why"})
    question = {"kind": "pair", "body": "Hi", "options": ["Hello", "What?"], "correct": "0", "explanation": "Kind."}
    yield good("/projects/{slug}/teaching/quiz", question)
    yield good("/projects/{slug}/teaching/quiz/{question_id}", question, question_id=ids["questions"][0])
    yield good("/projects/{slug}/teaching/quiz/{question_id}/remove", question_id=ids["questions"][1])
    ruling = {"kind": "reset", "reason": "The guidelines are new."}
    yield good("/projects/{slug}/teaching/raters/{person_id}", ruling, person_id=ids["member_id"])
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
    yield good("/account/keys", {"skip": "p F2", "note": "", "rank-1": "v"})
    yield good("/account/keys/single", {"single_keys": "off"})
    yield good("/account/keys/reset")
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
        "practice_comparisons": "0",
        "quiz_pass_percent": "80",
        "quiz_tries": "3",
        "demonstrations_per_prompt": "3",
        "allow_ties": "on",
        "allow_chat": "on",
        "chat_replies": "2",
        "chat_min_turns": "0",
        "max_rankings_per_day": "0",
        "max_hours_per_day": "0",
        "break_minutes": "50",
        "rules": "harm | Harm",
        "warnings": "hate | Hate",
        "reasons": "clear | Clearer",
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
    rank |= {"flags": {"0": ["harmful"]}, "reasons": ["clear"], "likert": [6, None], "edit": "Better."}
    at = "/projects/{slug}/assignments/{assignment_id}"
    yield good("POST", f"{at}/leave", assignment_id=ids["reopened"])
    yield good("POST", "/projects/{slug}/members/{person_id}/link", person_id=ids["member_id"])
    yield good("POST", f"{at}/draft", rank, assignment_id=ids["held"][0])
    yield good("POST", f"{at}/extend", assignment_id=ids["held"][0])
    sent = rank | {"idempotency_key": ids["keys"][0], "seconds": 3.5}
    yield good("POST", f"{at}/ranking", sent, assignment_id=ids["held"][0])
    yield good("POST", f"{at}/skip", {"reason": "unclear", "note": ""}, assignment_id=ids["held"][1])
    why = {"reason": "unsafe", "words": "It names somebody."}
    yield good("POST", f"{at}/question", {"text": "Is it about the hotel?"}, assignment_id=ids["held"][2])
    yield good("POST", f"{at}/report", why, assignment_id=ids["held"][2])
    yield good("POST", "/projects/{slug}/questions/{thread_id}/answer", {"text": "Yes."}, thread_id=ids["thread"])
    decision = {"decision": "withdraw", "note": "Gone."}
    yield good("POST", "/projects/{slug}/reports/{report_id}/decision", decision, report_id=ids["report"])
    yield good("PUT", "/projects/{slug}/me/care", {"opted_out": ["hate"]})
    yield good(
        "PUT", "/projects/{slug}/prompts/{prompt_id}/warnings", {"warnings": ["violence"]}, prompt_id=ids["prompt_id"]
    )
    yield good("POST", "/projects/{slug}/undo", {"assignment_id": None})
    yield good("POST", "/projects/{slug}/next")
    chats, at_turn = ids["chats"], "/projects/{slug}/chats/{chat_id}/turns/{turn_id}"
    places = [{"chat_id": chat, "turn_id": turn} for chat, turn in zip(chats, ids["turns"], strict=True)]
    yield good("POST", f"{at_turn}/draft", rank, **places[1])
    choice = rank | {"idempotency_key": ids["turn_keys"][0], "seconds": 2.0}
    yield good("POST", f"{at_turn}/choice", choice, **places[0])
    yield good("POST", f"{at_turn}/regenerate", {"round": 1}, **places[1])
    yield good("POST", f"{at_turn}/retry", **places[2])
    yield good("POST", f"{at_turn}/report", {"rule": "harmful", "severity": 2, "note": "By asking."}, **places[3])
    say = {"text": "And then?", "idempotency_key": str(uuid.uuid4())}
    yield good("POST", "/projects/{slug}/chats/{chat_id}/turns", say, chat_id=chats[4])
    yield good("POST", "/projects/{slug}/chats/{chat_id}/end", chat_id=chats[1])
    yield good("POST", "/projects/{slug}/chats", {"text": "Where is it?", "idempotency_key": str(uuid.uuid4())})
    endpoint: dict[str, Any] = {"name": "Other", "base_url": "http://127.0.0.1:9/v1", "model": "m", "key": "k"}
    endpoint |= {"temperature": 0.5, "weight": 1, "is_enabled": True}
    at_endpoint = "/projects/{slug}/endpoints/{endpoint_id}"
    yield good("POST", "/projects/{slug}/endpoints", endpoint)
    yield good("PUT", at_endpoint, endpoint | {"name": "Here"}, endpoint_id=ids["endpoint"])
    yield good("POST", f"{at_endpoint}/try", endpoint_id=ids["endpoint"])
    yield good("DELETE", at_endpoint, endpoint_id=ids["gone"])
    written = {"text": "It **is** so.", "idempotency_key": ids["writing_key"]}
    yield good("POST", "/projects/{slug}/writing/{task_id}/draft", {"text": "It is"}, task_id=ids["in_hand"])
    yield good("POST", "/projects/{slug}/writing/{task_id}", written, task_id=ids["in_hand"])
    reason = {"reason": "unclear", "note": ""}
    yield good("POST", "/projects/{slug}/writing/{task_id}/skip", reason, task_id=ids["to_skip"])
    again = {"text": "Twice.", "idempotency_key": str(uuid.uuid4())}
    yield good("POST", "/projects/{slug}/demonstrations/{task_id}", again, task_id=ids["written"])
    yield good("POST", "/projects/{slug}/writing/next")
    order = {"ranks": [1, 2], "idempotency_key": str(uuid.uuid4())}
    yield good("POST", "/projects/{slug}/practice/{lesson_id}", order, lesson_id=ids["lessons"][0])
    chosen = [{"question_id": question_id, "option": 0} for question_id in ids["questions"]]
    yield good("POST", "/projects/{slug}/quiz", {"answers": chosen, "idempotency_key": str(uuid.uuid4())})
    lesson = {"ranks": [2, 1], "explanation": "It is *shorter*."}
    yield good("POST", "/projects/{slug}/teaching/lessons", lesson | {"comparison_id": ids["free"]})
    yield good("PUT", "/projects/{slug}/teaching/lessons/{lesson_id}", lesson, lesson_id=ids["lessons"][0])
    yield good("DELETE", "/projects/{slug}/teaching/lessons/{lesson_id}", lesson_id=ids["lessons"][1])
    question = {"kind": "pair", "body": "Hi", "options": ["Hello", "What?"], "correct": 0, "explanation": "Kind."}
    at_question = "/projects/{slug}/teaching/questions/{question_id}"
    yield good("POST", "/projects/{slug}/teaching/questions", question)
    yield good("PUT", at_question, question, question_id=ids["questions"][0])
    yield good("DELETE", at_question, question_id=ids["questions"][1])
    ruling = {"kind": "reset", "reason": "The guidelines are new."}
    yield good("POST", "/projects/{slug}/teaching/raters/{person_id}", ruling, person_id=ids["member_id"])
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
    yield good("PUT", "/me/keys", {"single_keys": True, "keys": {"skip": ["p", "F2"]}})
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
        "allow_chat": True,
        "chat_replies": 2,
        "chat_min_turns": 0,
        "max_rankings_per_day": 0,
        "max_hours_per_day": 8,
        "break_minutes": 45,
        "red_team": False,
        "rules": [{"key": "harm", "label": "Harm"}],
        "practice_comparisons": 0,
        "quiz_required": False,
        "quiz_pass_percent": 80,
        "quiz_tries": 3,
        "warnings": [{"key": "hate", "label": "Hate"}],
        "demonstrations_per_prompt": 3,
        "reasons": [{"key": "clear", "label": "Clearer"}],
        "require_reason": False,
        "allow_edit": True,
        "ask_likert": True,
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
