"""A chat from its first turn to a ranking in the next snapshot, over the API and the pages."""

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.accounts.models import Person
from app.audit import AuditEvent
from app.chat.models import Chat, ChatReply, ChatTurn
from app.db import transaction
from app.guidelines import service as guidelines
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt, Response
from app.rating.models import Assignment, Ranking
from app.training.models import Run
from app.training.snapshots import read_snapshot, take_snapshot
from tests.app.chat.fake import Fake

Json = dict[str, Any]


class Program:
    """Asks over the API."""

    def __init__(self, client: TestClient, project: Project) -> None:
        self.client, self.at = client, f"/api/v1/projects/{project.slug}/chats"

    def post(self, path: str = "", **body: Any) -> Any:
        return self.client.post(self.at + path, json=body)

    def start(self, text: str = "Where is the pool?") -> Json:
        made = self.post(text=text)
        assert made.status_code == 201, made.text
        return self.get(made.json()["id"])

    def get(self, chat_id: int) -> Json:
        found: Json = self.client.get(f"{self.at}/{chat_id}").json()
        return found

    def choose(self, chat: Json, ranks: list[int | None], **more: Any) -> Any:
        turn = chat["turns"][-1]
        body = {"idempotency_key": turn["idempotency_key"], "ranks": ranks, **more}
        return self.post(f"/{chat['id']}/turns/{turn['id']}/choice", **body)


@pytest.fixture
def program(at_desk: TestClient, project: Project) -> Program:
    return Program(at_desk, project)


def all_of(db: Engine, kind: Any) -> list[Any]:
    with transaction(db) as session:
        return list(session.scalars(select(kind).order_by(next(iter(kind.__table__.primary_key)))))


def test_a_choice_is_a_ranking_of_the_next_snapshot(db: Engine, program: Program, project: Project, fake: Fake) -> None:
    chat = program.start()
    turn = chat["turns"][0]
    assert [reply["letter"] for reply in turn["replies"]] == ["A", "B"]
    assert [reply["state"] for reply in turn["replies"]] == ["done", "done"]
    assert {reply["text"] for reply in turn["replies"]} == {"Of course!"}
    stored = program.choose(chat, [2, 1], strength=3)
    assert stored.status_code == 200, stored.text
    assert stored.json()["standing"] == "counted"
    with transaction(db) as session:
        (row,) = read_snapshot(session, take_snapshot(session, session.get_one(Project, project.id)).id)
    assert row.messages == [{"role": "user", "content": "Where is the pool?"}]
    assert row.responses == ["Of course!", "Of course!"]
    assert (row.ranks, row.strength) == ([2, 1], 3)
    (comparison,), (ranking,) = all_of(db, Comparison), all_of(db, Ranking)
    assert (comparison.origin, comparison.wanted, comparison.counted, comparison.leased) == ("chat", 1, 1, 0)
    assert str(ranking.idempotency_key) == turn["idempotency_key"]
    assert not ranking.is_too_fast  # Replies are read as they come.
    assert {event.action for event in all_of(db, AuditEvent)} == {"chat.started", "chat.chosen"}


def test_the_lineage_of_each_reply_is_kept(db: Engine, program: Program, fake: Fake) -> None:
    program.choose(program.start(), [1, 2], strength=1)
    replies, responses = all_of(db, ChatReply), all_of(db, Response)
    assert [reply.response_id for reply in replies] == [response.id for response in responses]
    for asked, reply, response in zip(
        sorted_by_model(fake.asked), sorted(replies, key=by_model), sorted(responses, key=by_model), strict=True
    ):
        assert asked["model"] == f"attune-{reply.model_version_id}" == f"attune-{response.model_version_id}"
        assert asked["temperature"] == reply.sampling["temperature"] == response.sampling["temperature"]
        assert response.origin == "sampled"
    assert fake.keys == ["Bearer a key for the sampler"] * 2


def by_model(row: Any) -> tuple[int, float]:
    return row.model_version_id, row.sampling["temperature"]


def sorted_by_model(asked: list[Json]) -> list[Json]:
    return sorted(asked, key=lambda body: (int(body["model"].split("-")[1]), body["temperature"]))


def test_the_chosen_reply_goes_on(db: Engine, program: Program, fake: Fake) -> None:
    chat = program.start("One?")
    with transaction(db) as session:
        for place, text in ((0, "left"), (1, "right")):
            row = session.scalars(select(ChatReply).where(ChatReply.place == place)).one()
            row.text = text
    program.choose(chat, [2, 1], strength=2)
    said = program.post(f"/{chat['id']}/turns", text="Two?")
    assert said.status_code == 201, said.text
    for asked in fake.asked[2:]:
        assert asked["messages"] == [
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "right"},
            {"role": "user", "content": "Two?"},
        ]
    assert program.get(chat["id"])["turns"][0]["chosen"] == "B"
    program.choose(program.get(chat["id"]), [1, 2], strength=1)
    prompts = all_of(db, Prompt)
    assert [len(prompt.messages) for prompt in prompts] == [1, 3]
    assert len({prompt.split for prompt in prompts}) == 1, "turns of one chat share their beginning"


@pytest.mark.parametrize(("ranks", "more"), [([1, 1], {}), ([1, 1], {"all_bad": True})])
def test_of_equals_one_goes_on(program: Program, ranks: list[int | None], more: Json) -> None:
    chat = program.start()
    assert program.choose(chat, ranks, **more).status_code == 200
    assert program.get(chat["id"])["turns"][0]["chosen"] in {"A", "B"}
    assert program.post(f"/{chat['id']}/turns", text="And then?").status_code == 201


def test_four_replies_are_ranked_as_four(db: Engine, program: Program, project: Project) -> None:
    with transaction(db) as session:
        session.get_one(Project, project.id).chat_replies = 4
    chat = program.start()
    assert len(chat["turns"][0]["replies"]) == 4
    assert program.choose(chat, [3, 1, 2, 2]).status_code == 200
    (ranking,) = all_of(db, Ranking)
    assert sorted(ranking.ranks.values()) == [1, 2, 2, 3]
    assert program.get(chat["id"])["turns"][0]["chosen"] == "B"


def test_the_threshold_starts_a_run(db: Engine, program: Program, project: Project) -> None:
    with transaction(db) as session:
        kept = session.get_one(Project, project.id)
        kept.threshold, kept.auto_train = 1, True
        from sqlalchemy import update

        from app.training.models import ModelVersion

        session.execute(update(ModelVersion).where(ModelVersion.state == "candidate").values(state="refused"))
    program.choose(program.start(), [1, 2], strength=4)
    assert [(run.kind, run.trigger) for run in all_of(db, Run)] == [("loop", "threshold")]


def test_sent_twice_is_stored_once(db: Engine, program: Program) -> None:
    key = str(uuid.uuid4())
    first, second = (program.post(text="Hello", idempotency_key=key).json() for _ in range(2))
    assert first["id"] == second["id"]
    chat = program.get(first["id"])
    assert program.choose(chat, [1, 2], strength=2).json()["is_replay"] is False
    assert program.choose(chat, [1, 2], strength=2).json()["is_replay"] is True
    other = program.choose(chat, [2, 1], strength=2)
    assert other.status_code == 422
    assert "sent before with another answer" in other.text
    say = str(uuid.uuid4())
    for _ in range(2):
        assert program.post(f"/{chat['id']}/turns", text="More", idempotency_key=say).status_code == 201
    assert (len(all_of(db, Chat)), len(all_of(db, ChatTurn)), len(all_of(db, Ranking))) == (1, 2, 1)


def test_a_reply_that_breaks_off_says_so_and_can_be_written_again(db: Engine, program: Program, fake: Fake) -> None:
    fake.breaks = {f"attune-{n}" for n in range(1, 5)}
    chat = program.start()
    assert [reply["state"] for reply in chat["turns"][0]["replies"]] == ["failed", "failed"]
    assert [reply["text"] for reply in chat["turns"][0]["replies"]] == ["Of course!", "Of course!"]
    early = program.choose(chat, [1, 2], strength=1)
    assert (early.status_code, "Not all replies are complete" in early.text) == (409, True)
    before = {reply.place: reply.model_version_id for reply in all_of(db, ChatReply)}
    fake.breaks.clear()
    again = program.post(f"/{chat['id']}/turns/{chat['turns'][0]['id']}/retry")
    assert again.status_code == 200, again.text
    assert [reply["state"] for reply in program.get(chat["id"])["turns"][0]["replies"]] == ["done", "done"]
    assert {reply.place: reply.model_version_id for reply in all_of(db, ChatReply)} == before
    assert program.choose(program.get(chat["id"]), [1, 2], strength=1).status_code == 200


def test_new_replies_keep_the_old_ones(db: Engine, program: Program) -> None:
    chat = program.start()
    turn = chat["turns"][0]
    anew = program.post(f"/{chat['id']}/turns/{turn['id']}/regenerate", round=1)
    assert anew.status_code == 200, anew.text
    program.post(f"/{chat['id']}/turns/{turn['id']}/regenerate", round=1)  # Twice does it once.
    assert [reply.round for reply in all_of(db, ChatReply)] == [1, 1, 2, 2]
    stale = program.choose(chat, [1, 2], strength=1)
    assert stale.status_code == 409, "the form was made for the replies of the first round"
    assert program.choose(program.get(chat["id"]), [1, 2], strength=1).status_code == 200
    assert [reply.response_id is None for reply in all_of(db, ChatReply)] == [True, True, False, False]
    assert [event.action for event in all_of(db, AuditEvent)].count("chat.regenerated") == 1


def test_it_ends_after_the_turns_that_the_project_asks_for(db: Engine, program: Program, project: Project) -> None:
    with transaction(db) as session:
        session.get_one(Project, project.id).chat_min_turns = 1
    chat = program.start()
    early = program.post(f"/{chat['id']}/end")
    assert (early.status_code, "1 more to go" in early.text) == (409, True)
    program.choose(chat, [1, 2], strength=1)
    assert program.post(f"/{chat['id']}/end").json()["state"] == "ended"
    assert program.post(f"/{chat['id']}/end").status_code == 200
    assert program.post(f"/{chat['id']}/turns", text="More").status_code == 409


def test_a_chat_is_nobody_elses(
    program: Program,
    project: Project,
    sign_in: Callable[[Person], TestClient],
    make_person: Callable[..., Person],
    join: Callable[..., Person],
) -> None:
    chat = program.start()
    other = Program(sign_in(join(make_person(), project, "rater", "admin", "operator", "overseer")), project)
    turn = chat["turns"][0]["id"]
    assert other.client.get(f"{other.at}/{chat['id']}").status_code == 404
    assert other.client.get(f"{other.at}/{chat['id']}/stream").status_code == 404
    assert other.choose(chat, [1, 2], strength=1).status_code == 404
    for path in ("turns", "end", f"turns/{turn}/retry", f"turns/{turn}/regenerate", f"turns/{turn}/report"):
        body = {"text": "x"} if path == "turns" else {"round": 1} if path.endswith("regenerate") else {}
        assert other.post(f"/{chat['id']}/{path}", **body).status_code == 404, path


def test_where_chat_is_off_nothing_begins(db: Engine, program: Program, project: Project) -> None:
    with transaction(db) as session:
        session.get_one(Project, project.id).allow_chat = False
    refused = program.post(text="Hello")
    assert (refused.status_code, "has no chat" in refused.text) == (403, True)
    page = program.client.get(f"/projects/{project.slug}/chat")
    assert "This project has no chat" in page.text


def test_without_a_policy_the_page_says_what_to_do(
    db: Engine, make_project: Callable[..., Project], rater: Person, join: Callable[..., Person], at_desk: TestClient
) -> None:
    empty = make_project(allow_chat=True)
    join(rater, empty, "rater", "operator")
    assert "Nobody to talk with yet" in at_desk.get(f"/projects/{empty.slug}/chat").text
    assert Program(at_desk, empty).post(text="Hello").status_code == 409


def test_the_guidelines_come_first_and_are_stamped(
    db: Engine, program: Program, project: Project, make_person: Callable[..., Person], rater: Person
) -> None:
    with transaction(db) as session:
        guidelines.save_draft(session, project, body="Be kind.", person_id=rater.id)
        edition = guidelines.publish(session, project, person_id=rater.id)
    assert program.post(text="Hello").status_code == 409
    assert "Be kind." in program.client.get(f"/projects/{project.slug}/chat").text
    with transaction(db) as session:
        guidelines.acknowledge(session, project, 1, person_id=rater.id)
    program.choose(program.start(), [1, 2], strength=1)
    assert [row.guideline_id for row in all_of(db, Ranking)] == [edition.id]
    assert [row.guideline_id for row in all_of(db, Assignment)] == [edition.id]


@pytest.mark.parametrize("text", ["", " \n ", "x" * 8001, "a\x00b"])
def test_what_cannot_be_said_is_told(program: Program, text: str) -> None:
    assert program.post(text=text).status_code == 422


def test_the_pages_work_without_scripts(at_desk: TestClient, project: Project, db: Engine) -> None:
    at = f"/projects/{project.slug}/chat"
    key = re.search(r'name="idempotency_key" value="([0-9a-f-]+)"', at_desk.get(at).text)
    assert key
    begun = at_desk.post(at, data={"text": "Where is **it**?", "idempotency_key": key[1]})
    assert begun.status_code == 303
    here = begun.headers["Location"]
    page = at_desk.get(here).text
    assert "Which reply is better?" in page
    form = re.search(rf'action="({here}/turns/\d+)/choice"', page)
    vote = re.search(r'id="comparison".*?name="idempotency_key" value="([0-9a-f-]+)"', page, re.DOTALL)
    assert form
    assert vote
    assert at_desk.post(f"{form[1]}/draft", data={"choice": "b2", "num_responses": "2"}).status_code == 204
    assert re.search(r'value="b2"[^>]*checked', at_desk.get(here).text), "a reload finds the draft"
    chosen = at_desk.post(f"{form[1]}/choice", data={"choice": "b3", "idempotency_key": vote[1], "num_responses": "2"})
    assert chosen.status_code == 303
    after = at_desk.get(here).text
    assert "What do you say next?" in after
    assert "Reply B" in after
    assert at_desk.post(f"{here}/end").status_code == 303
    assert "This chat has ended" in at_desk.get(here).text
    assert "1 choice<" in at_desk.get(at).text
    assert [(row.strength, sorted(row.ranks.values())) for row in all_of(db, Ranking)] == [(3, [1, 2])]


def test_my_rankings_shows_a_choice_and_corrects_it(db: Engine, program: Program, project: Project) -> None:
    program.choose(program.start(), [1, 2], strength=1)
    assert "Where is the pool?" in program.client.get(f"/projects/{project.slug}/my-rankings").text
    assert program.client.post(f"/projects/{project.slug}/rate-undo").status_code == 303
    assert "Correct your ranking" in program.client.get(f"/projects/{project.slug}/rate").text
