"""The demo's project: people, guidelines, prompts, demonstrations and answers to rank, and its first run."""

import random

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts import service as accounts
from app.accounts.models import Person
from app.demo import grammar, settings
from app.guidelines.models import Guideline
from app.projects.models import Membership, Project, Role
from app.prompts import service as prompts
from app.prompts.models import Response
from app.training.models import Kind
from app.training.service import request_run

SLUG = "concierge"
ROLES = (Role.RATER, Role.ADMIN, Role.OPERATOR, Role.OVERSEER)
GUIDELINES = """\
# Rating the concierge

You see a guest's question and several answers. **Put the answers in order, best first.** A good answer is

1. **on topic**: it answers *this* guest's question, not another one;
2. **warm**: it makes the guest feel welcome;
3. **brief**: it says what is needed and stops.

Relevance comes first: a warm answer about something else is worse than a plain one that helps.

- Two answers that are equally good may share a rank.
- If no answer could be given to a guest, mark *all are bad*.

## Example

> Where is the pool?

| answer | judgement |
| --- | --- |
| Of course! The pool is on the top floor and open until nine. | warm, on topic, brief: **best** |
| Pool, top floor. | helps, but curt |
| Enjoy your stay! Breakfast is served until ten. | warm, but off topic |
| Can you not read the sign? | rude: **worst** |
"""


def is_seeded(session: Session) -> bool:
    """Whether the demo, or anybody else's work, is in this database."""
    return session.scalar(select(Person.id).limit(1)) is not None


def seed_demo(session: Session, *, model: str | None = None, **overrides: object) -> Project:
    """Make the demo's project and ask for its first run; raters can begin at once on answers that ship with it.

    Args:
        model: a Hugging Face folder or name instead of the tiny model that is made on the spot.
        overrides: columns of the project, such as `threshold`.
    """
    project = Project(
        slug=SLUG,
        name="The concierge",
        description="A small demo world: a hotel's concierge who can be warm, curt, rambling, off-topic or rude.",
        template="ranking",
        responses_per_comparison=4,
        base_model=model or "tiny",
        allow_chat=True,
        threshold=200,
        sampling=settings.SAMPLING,
        training={
            "tiny": settings.MODEL,
            "sft": settings.SFT,
            "reward": settings.REWARD,
            "ppo": settings.PPO,
            "seed": settings.SEED,
        },
        **overrides,
    )
    session.add(project)
    session.flush()
    _add_people(session, project)
    admin_id = session.scalar(select(Membership.person_id).where(Membership.role == Role.ADMIN))
    session.add(
        Guideline(
            project_id=project.id, edition=None, body=GUIDELINES, summary="The first edition.", written_by_id=admin_id
        )
    )
    session.flush()
    _publish(session, project, admin_id)
    _add_prompts(session, project)
    _add_demonstrations(session, project)
    request_run(session, project, Kind.SFT, trigger="demo")
    return project


def sign_in_links(session: Session) -> list[tuple[str, str]]:
    """A fresh one-time link's token for each of the demo's people: (role, token)."""
    query = select(Person).where(Person.email.in_([_email(role) for role in ROLES]), Person.is_active)
    people = {person.email: person for person in session.scalars(query)}
    return [
        (role.value, accounts.create_link(session, "sign_in", person_id=people[_email(role)].id))
        for role in ROLES
        if _email(role) in people
    ]


def _email(role: Role) -> str:
    return f"{role.value}@demo.invalid"


def _add_people(session: Session, project: Project) -> None:
    """One person for each role, without passwords; the admin may also make projects."""
    names = {
        Role.RATER: "Robin Rater",
        Role.ADMIN: "Alex Admin",
        Role.OPERATOR: "Olu Operator",
        Role.OVERSEER: "Vera Overseer",
    }
    for role in ROLES:
        person = accounts.create_person(session, _email(role), name=names[role], is_site_admin=role == Role.ADMIN)
        session.add(Membership(project_id=project.id, person_id=person.id, role=role))


def _publish(session: Session, project: Project, admin_id: int | None) -> None:
    from sqlalchemy import func, update

    draft = update(Guideline).where(Guideline.project_id == project.id)
    session.execute(draft.values(edition=1, published_at=func.now(), published_by_id=admin_id))


def _add_prompts(session: Session, project: Project) -> None:
    """Prompts to be held out, prompts to practise on, and comparisons of answers that ship with the demo."""
    rng = random.Random(settings.SEED)
    total = settings.NUM_HELDOUT_PROMPTS + settings.NUM_PRACTICE_PROMPTS
    for index, prompt in enumerate(grammar.make_prompts(total, seed=settings.SEED)):
        is_heldout = index < settings.NUM_HELDOUT_PROMPTS
        prompt_id, _ = prompts.add_prompt(
            session,
            project,
            prompt.messages,
            topic=prompt.topic,
            external_id=prompt.external_id,
            split="heldout" if is_heldout else "train",
        )
        # A tenth of the comparisons are of held-out prompts: the reward model is evaluated on them.
        place = index if is_heldout else index - settings.NUM_HELDOUT_PROMPTS
        if place < settings.NUM_COMPARISONS // (10 if is_heldout else 1):
            texts = grammar.shipped_responses(prompt, project.responses_per_comparison, rng)
            ids = [prompts.add_response(session, prompt_id, t, origin="imported", source="demo")[0] for t in texts]
            prompts.add_comparison(session, project, prompt_id, ids, origin="demo")


def _add_demonstrations(session: Session, project: Project) -> None:
    """What the first policy imitates: all five styles, so that preferences have something to choose from."""
    heldout = {p.messages[0]["content"] for p in grammar.make_prompts(settings.NUM_HELDOUT_PROMPTS, seed=settings.SEED)}
    ids: dict[str, int] = {}
    rows: list[dict[str, object]] = []
    for prompt, text in grammar.demonstrations(settings.NUM_DEMONSTRATIONS, seed=settings.SEED):
        asked = prompt.messages[0]["content"]
        if asked in heldout:
            continue
        if asked not in ids:
            ids[asked], _ = prompts.add_prompt(session, project, prompt.messages, topic=prompt.topic, split="train")
        content_hash = prompts.digest("written", len(rows), text)
        rows.append(
            {
                "prompt_id": ids[asked],
                "content_hash": content_hash,
                "text": text,
                "origin": "written",
                "source": "demo",
                "sampling": {},
            }
        )
    for start in range(0, len(rows), 1000):
        session.execute(insert(Response), rows[start : start + 1000])
