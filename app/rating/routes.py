"""The rater's desk in the browser. Each form also works without scripts."""

import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select

from app.errors import Invalid
from app.guidelines.reading import reading_of
from app.projects.deps import Rater
from app.projects.models import Project
from app.prompts.models import Comparison, Prompt
from app.rating import care, desk, leases, questions, reports, service
from app.rating.answers import Answer
from app.rating.models import Assignment
from app.rating.warnings import labels_of
from app.teaching.gate import standing_of
from app.web import FormFields, SessionDep, is_htmx, redirect, render

router = APIRouter(prefix="/projects/{slug}", tags=["rating"])
Text = Annotated[str, Form()]


@router.get("/rate", response_class=HTMLResponse)
def rate(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """The desk as it stands: what is in hand, or a button for the next comparison. Takes nothing by itself."""
    held = leases.held_assignment(session, member.project, rater_id=member.person.id)
    return _desk(request, session, member, held)


@router.post("/rate/next", response_class=HTMLResponse)
def take_next(member: Rater, request: Request, session: SessionDep) -> Response:
    """Take the next comparison."""
    assignment = None
    if desk.unread_guideline(session, member.project, rater_id=member.person.id) is None:
        assignment = leases.next_assignment(session, member.project, rater_id=member.person.id, may_wait=True)
    return _after(request, session, member, assignment)


@router.post("/rate/ahead", response_class=HTMLResponse)
def take_ahead(member: Rater, request: Request, session: SessionDep) -> Response:
    """The desk as it will be after the comparison in hand, to be shown without waiting; empty when nothing follows."""
    return _ahead(request, session, member)


@router.post("/rate/{assignment_id}", response_class=HTMLResponse)
def submit(member: Rater, assignment_id: int, request: Request, session: SessionDep, fields: FormFields) -> Response:
    """Store a ranking and show the next comparison."""
    recorded = service.record_ranking(
        session,
        member.project,
        member.person,
        assignment_id=assignment_id,
        idempotency_key=_key(fields),
        answer=answer_of(fields, member.project),
    )
    notice = "Saved." if recorded.ranking.standing == "counted" else "Saved, as an extra ranking: others were first."
    following = leases.next_assignment(session, member.project, rater_id=member.person.id)
    if fields.get("shown") == ["next"]:  # The browser shows what it took ahead; its lease was renewed just now.
        return _ahead(request, session, member, headers={"X-Attune-Notice": notice})
    return _after(request, session, member, following, notice=notice)


@router.post("/rate/{assignment_id}/draft", status_code=204)
def draft(member: Rater, assignment_id: int, session: SessionDep, fields: FormFields) -> Response:
    """Keep what has been chosen so far."""
    draft = answer_of(fields, member.project).draft
    service.save_draft(session, member.project, assignment_id, rater_id=member.person.id, draft=draft)
    return Response(status_code=204)


@router.post("/rate/{assignment_id}/skip", response_class=HTMLResponse)
def skip(
    member: Rater, assignment_id: int, request: Request, session: SessionDep, reason: Text = "", note: Text = ""
) -> Response:
    """Give a comparison back, with a reason."""
    leases.skip(session, member.project, assignment_id, rater_id=member.person.id, reason=reason, note=note)
    following = leases.next_assignment(session, member.project, rater_id=member.person.id)
    return _after(request, session, member, following, notice="Skipped.")


@router.post("/rate/{assignment_id}/extend", response_class=HTMLResponse)
def extend(member: Rater, assignment_id: int, request: Request, session: SessionDep) -> Response:
    """Hold this comparison longer."""
    held = leases.extend_lease(session, member.project, assignment_id, rater_id=member.person.id)
    return _after(request, session, member, held, notice="You have more time for this one.")


@router.post("/rate/{assignment_id}/leave", response_class=HTMLResponse)
def leave(member: Rater, assignment_id: int, request: Request, session: SessionDep) -> Response:
    """Stop correcting: the ranking stays as it was."""
    service.leave_as_it_was(session, member.project, assignment_id, rater_id=member.person.id)
    following = leases.next_assignment(session, member.project, rater_id=member.person.id)
    return _after(request, session, member, following, notice="Left as it was.")


@router.post("/rate-undo", response_class=HTMLResponse)
def undo(
    member: Rater, request: Request, session: SessionDep, assignment_id: Annotated[int | None, Form()] = None
) -> Response:
    """Bring the last ranking (or a chosen one) back to be corrected; it stands until the correction is sent."""
    opened = service.undo_last(session, member.project, rater_id=member.person.id, assignment_id=assignment_id)
    return _after(request, session, member, opened, notice="Here it is again. It stands until you send a correction.")


@router.get("/my-rankings", response_class=HTMLResponse)
def mine(member: Rater, request: Request, session: SessionDep) -> HTMLResponse:
    """One's own recent rankings, each with a way to correct it."""
    rankings = service.recent_rankings(session, member.project, rater_id=member.person.id)
    asked = select(Comparison.id, Prompt.messages).join(Prompt, Prompt.id == Comparison.prompt_id)
    asked = asked.where(Comparison.id.in_([ranking.comparison_id for ranking in rankings]))
    prompts = {row.id: row.messages[-1]["content"] for row in session.execute(asked)}
    context: dict[str, Any] = {"rankings": rankings, "prompts": prompts, "limit": service.NUM_RECENT}
    return render(request, "rating/mine.html", project=member.project, **context)


def answer_of(fields: dict[str, list[str]], project: Project) -> Answer:
    """The form as an answer: `rank-0`, ..., or `choice` for pairs with a strength; empty means unranked.

    Raises:
        Invalid: something is not a number.
    """

    def one(name: str) -> str:
        return fields.get(name, [""])[-1].strip()

    ranks = [_number(one(f"rank-{place}"), f"rank-{place}") for place in range(_num_places(fields))]
    all_bad, strength = one("all_bad") == "on", None
    if choice := one("choice"):
        ranks, strength, all_bad = _choice(choice)
    attributes = {
        attribute["key"]: [
            _number(one(f"attribute-{attribute['key']}-{place}"), attribute["key"]) for place in range(len(ranks))
        ]
        for attribute in project.attributes
        if any(one(f"attribute-{attribute['key']}-{place}") for place in range(len(ranks)))
    }
    flags = {str(place): fields[f"flags-{place}"] for place in range(9) if fields.get(f"flags-{place}")}
    return Answer(
        ranks=ranks,
        all_bad=all_bad,
        strength=strength,
        attributes=attributes,
        flags=flags,
        note="\n".join(fields.get("note", [""])).replace("\r\n", "\n"),
        edit=one("edit").replace("\r\n", "\n"),
        reasons=fields.get("reasons", []),
        likert=[
            _number(one(f"likert-{place}"), f"likert-{place}", of="a mark is a number from 1 to 7")
            for place in range(len(ranks))
        ],
        seconds=_seconds(one("seconds")),
        shown_seconds=_seconds(one("shown_seconds")),
    )


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else None


def _num_places(fields: dict[str, list[str]]) -> int:
    """How many responses were shown. The form says so, because a browser sends nothing for what is not ranked."""
    shown = fields.get("num_responses", [""])[-1]
    named = [int(name[5:]) + 1 for name in fields if re.fullmatch(r"rank-[0-8]", name)]
    return max([int(shown) if re.fullmatch(r"[2-9]", shown) else 0, *named])


def _choice(choice: str) -> tuple[list[int | None], int | None, bool]:
    """`a4` ... `a1`, `tie`, `b1` ... `b4`, `bad`: ranks, strength, all bad."""
    if choice == "tie":
        return [1, 1], None, False
    if choice == "bad":
        return [1, 1], None, True
    if len(choice) == 2 and choice[0] in "ab" and choice[1] in "1234":
        return ([1, 2] if choice[0] == "a" else [2, 1]), int(choice[1]), False
    raise Invalid("Choose one of the answers.", field="choice")


def _number(text: str, name: str, *, of: str = "a rank is a number from 1 to 9") -> int | None:
    if text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 2:
        raise Invalid(f"{name}: {of}.", field=name)
    return int(text)


def _key(fields: dict[str, list[str]]) -> uuid.UUID:
    try:
        return uuid.UUID(fields.get("idempotency_key", [""])[-1])
    except ValueError:
        raise Invalid(
            "This form is incomplete. Reload the page: your draft is kept.", field="idempotency_key"
        ) from None


def _ahead(request: Request, session: SessionDep, member: Rater, *, headers: dict[str, str] | None = None) -> Response:
    following = None
    if desk.unread_guideline(session, member.project, rater_id=member.person.id) is None:
        following = leases.take_ahead(session, member.project, rater_id=member.person.id)
    if following is None:
        return Response(status_code=204, headers=headers)
    answer = _desk(request, session, member, following, fragment=True, is_ahead=True)
    answer.headers.update(headers or {})
    return answer


def go_on_after(request: Request, session: SessionDep, member: Rater, *, notice: str) -> Response:
    """The next comparison, after this one has left the rater's hands."""
    following = leases.next_assignment(session, member.project, rater_id=member.person.id)
    return _after(request, session, member, following, notice=notice)


def _after(
    request: Request, session: SessionDep, member: Rater, assignment: Assignment | None, *, notice: str = ""
) -> Response:
    """htmx gets the fragment that replaces the desk; a plain browser is sent to the page."""
    if not is_htmx(request):
        return redirect(f"/projects/{member.project.slug}/rate")
    return _desk(request, session, member, assignment, fragment=True, notice=notice)


def _desk(
    request: Request,
    session: SessionDep,
    member: Rater,
    assignment: Assignment | None,
    *,
    fragment: bool = False,
    notice: str = "",
    is_ahead: bool = False,
) -> HTMLResponse:
    project, rater_id = member.project, member.person.id
    newest, is_read = desk.newest_guideline(session, project, rater_id=rater_id)
    shown, guideline, day = None, None, care.today(session, project, rater_id=rater_id)
    if assignment is not None and is_read:
        shown, guideline = desk.desk_of(session, assignment), desk.guideline_of(session, assignment)
    template = "rating/_desk.html" if fragment else "rating/page.html"
    return render(
        request,
        template,
        project=project,
        desk=shown,
        guideline=guideline or newest,
        unread=None if is_read else newest,
        standing=standing_of(session, project, rater_id=rater_id),
        reading=None if is_read else reading_of(session, project, person_id=rater_id),
        notice=notice,
        num_today=day.num_ranked + is_ahead,
        active_seconds=int(day.active_seconds),
        warnings=labels_of(project, shown.warnings) if shown else [],
        rest="" if shown or not is_read else care.why_rest(session, project, rater_id=rater_id),
        num_left=_num_left(session, member, num_ranked=day.num_ranked, is_ahead=is_ahead),
        skip_reasons=leases.SKIP_REASONS,
        report_reasons=reports.REASONS,
        num_answers=questions.num_answers(session, project, rater_id=rater_id),
        is_waiting=fragment,
    )


def _num_left(session: SessionDep, member: Rater, *, num_ranked: int, is_ahead: bool) -> int | None:
    """What is left for this rater today; without the comparison in hand, for the desk that will follow it."""
    left = leases.num_left(session, member.project, rater_id=member.person.id)
    if most := member.project.max_rankings_per_day:
        left = max(0, min(left if left is not None else most, most - num_ranked))
    return left if left is None else left - is_ahead
