"""The data page: import with its report, export, and what is there."""

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from sqlalchemy import func, select

from app.db import Base
from app.errors import NotFound
from app.exchange import export, service
from app.exchange.models import ImportJob, ImportProblem
from app.exchange.rows import FORMATS
from app.projects.deps import Admin
from app.prompts.models import Comparison, Prompt
from app.prompts.service import responses_of, set_warnings
from app.web import FormFields, SessionDep, SettingsDep, redirect, render

router = APIRouter(prefix="/projects/{slug}", tags=["exchange"])
PAGE = 50


@router.get("/data", response_class=HTMLResponse)
def data(member: Admin, request: Request, session: SessionDep) -> HTMLResponse:
    """Counts, import, export, imports so far."""
    ranking = Base.metadata.tables["ranking"]
    project_id = member.project.id
    counts = {
        "prompts": session.scalar(select(func.count()).select_from(Prompt).where(Prompt.project_id == project_id)),
        "comparisons": session.scalar(
            select(func.count()).select_from(Comparison).where(Comparison.project_id == project_id)
        ),
        "rankings": session.scalar(select(func.count()).select_from(ranking).where(ranking.c.project_id == project_id)),
    }
    jobs = session.scalars(
        select(ImportJob).where(ImportJob.project_id == project_id).order_by(ImportJob.id.desc()).limit(20)
    ).all()
    return render(request, "exchange/data.html", project=member.project, counts=counts, jobs=jobs, formats=FORMATS)


@router.post("/imports")
def upload(
    member: Admin,
    session: SessionDep,
    settings: SettingsDep,
    file: Annotated[UploadFile, File()],
    format: Annotated[str, Form()] = "auto",  # noqa: A002
    keep_good_lines: Annotated[bool, Form()] = False,
) -> Response:
    """Take the file; a worker imports it."""
    name, size = service.receive_file(file.file, settings.upload_dir, limit=settings.max_import_bytes)
    job = service.start_import(
        session,
        member.project,
        stored_name=name,
        file_name=file.filename or "file",
        size=size,
        format=format,
        keep_good_lines=keep_good_lines,
        person_id=member.person.id,
    )
    return redirect(f"/projects/{member.project.slug}/imports/{job.id}")


@router.get("/imports/{import_id}", response_class=HTMLResponse)
def show_import(member: Admin, import_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """Progress and report of one import."""
    return _import_page(request, session, member, import_id, "exchange/import.html")


@router.get("/imports/{import_id}/status", response_class=HTMLResponse)
def import_status(member: Admin, import_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """The part that changes while it runs."""
    return _import_page(request, session, member, import_id, "exchange/_import.html")


@router.post("/imports/{import_id}/again")
def take_good_lines(member: Admin, import_id: int, session: SessionDep) -> Response:
    """Import the good lines of a refused file."""
    job = service.again_with_good_lines(session, member.project, import_id, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/imports/{job.id}")


@router.get("/export/{what}.{format}")
def download(member: Admin, what: str, format: str, request: Request) -> StreamingResponse:  # noqa: A002
    """An export, as an attachment."""
    content = export.stream(request.app.state.engine, member.project, what=what, format=format)
    headers = {
        "Content-Disposition": f'attachment; filename="{member.project.slug}-{what}.{format}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return StreamingResponse(content, media_type=export.FORMATS[format], headers=headers)


@router.get("/comparisons", response_class=HTMLResponse)
def comparisons(member: Admin, request: Request, session: SessionDep, before: int | None = None) -> HTMLResponse:
    """Comparisons, newest first, a page at a time."""
    query = select(Comparison, Prompt.messages).join(Prompt, Prompt.id == Comparison.prompt_id)
    query = query.where(Comparison.project_id == member.project.id)
    if before is not None:
        query = query.where(Comparison.id < before)
    rows = session.execute(query.order_by(Comparison.id.desc()).limit(PAGE + 1)).all()
    has_older = len(rows) > PAGE
    return render(request, "exchange/comparisons.html", project=member.project, rows=rows[:PAGE], has_older=has_older)


@router.get("/comparisons/{comparison_id}", response_class=HTMLResponse)
def comparison(member: Admin, comparison_id: int, request: Request, session: SessionDep) -> HTMLResponse:
    """One comparison with its responses and rankings, for admins."""
    found = _comparison(session, member, comparison_id)
    ranking = Base.metadata.tables["ranking"]
    rankings = session.execute(select(ranking).where(ranking.c.comparison_id == found.id).order_by(ranking.c.id)).all()
    return render(
        request,
        "exchange/comparison.html",
        project=member.project,
        comparison=found,
        prompt=session.get_one(Prompt, found.prompt_id),
        responses=responses_of(session, [found.id])[found.id],
        rankings=rankings,
    )


@router.post("/comparisons/{comparison_id}/warnings")
def mark(member: Admin, comparison_id: int, session: SessionDep, fields: FormFields) -> Response:
    """Say which content the comparison's prompt and its responses may hold."""
    found = _comparison(session, member, comparison_id)
    keys = fields.get("warnings", [])
    set_warnings(session, member.project, found.prompt_id, keys, person_id=member.person.id)
    return redirect(f"/projects/{member.project.slug}/comparisons/{comparison_id}")


def _comparison(session: SessionDep, member: Admin, comparison_id: int) -> Comparison:
    mine = (Comparison.id == comparison_id, Comparison.project_id == member.project.id)
    found: Comparison | None = session.scalar(select(Comparison).where(*mine))
    if found is None:
        raise NotFound("This project has no such comparison.")
    return found


def _import_page(request: Request, session: SessionDep, member: Admin, import_id: int, template: str) -> HTMLResponse:
    job = service.get_import(session, member.project, import_id)
    problems = select(ImportProblem).where(ImportProblem.import_id == job.id).order_by(ImportProblem.line).limit(200)
    return render(request, template, project=member.project, job=job, problems=session.scalars(problems).all())
