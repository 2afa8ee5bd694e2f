"""Import and export for programs."""

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy import select

from app.api.shapes import Answer, Body
from app.exchange import export, service
from app.exchange.models import ImportProblem
from app.projects.deps import Admin
from app.prompts.models import Prompt
from app.prompts.service import set_warnings
from app.web import SessionDep, SettingsDep

router = APIRouter(prefix="/projects/{slug}", tags=["exchange"])


class ImportShape(Answer):
    """An import as it stands."""

    id: int
    file_name: str
    format: str
    state: str
    bytes_total: int
    bytes_done: int
    num_lines: int
    num_bad_lines: int
    num_new_prompts: int
    num_new_responses: int
    num_new_comparisons: int
    num_new_rankings: int
    error: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None


class ProblemShape(Answer):
    """Why a line was not accepted."""

    line: int
    reason: str


class PromptShape(Answer):
    """A prompt."""

    id: int
    messages: list[dict[str, Any]]
    topic: str | None
    external_id: str | None
    split: str
    warnings: list[str]


class Marked(Body):
    """Categories of content (keys of the project's `warnings`) that a prompt and its responses may hold."""

    warnings: list[str] = Field(max_length=50)


@router.post("/imports", response_model=ImportShape, status_code=201)
def upload(
    member: Admin,
    session: SessionDep,
    settings: SettingsDep,
    file: Annotated[UploadFile, File()],
    format: Annotated[str, Form()] = "auto",  # noqa: A002
    keep_good_lines: Annotated[bool, Form()] = False,
) -> Any:
    """Take a file; a worker imports it."""
    name, size = service.receive_file(file.file, settings.upload_dir, limit=settings.max_import_bytes)
    return service.start_import(
        session,
        member.project,
        stored_name=name,
        file_name=file.filename or "file",
        size=size,
        format=format,
        keep_good_lines=keep_good_lines,
        person_id=member.person.id,
    )


@router.get("/imports/{import_id}", response_model=ImportShape)
def show_import(member: Admin, import_id: int, session: SessionDep) -> Any:
    """How far it is, and what it did."""
    return service.get_import(session, member.project, import_id)


@router.get("/imports/{import_id}/problems", response_model=list[ProblemShape])
def problems(member: Admin, import_id: int, session: SessionDep) -> Any:
    """The first 1,000 bad lines."""
    job = service.get_import(session, member.project, import_id)
    found = select(ImportProblem).where(ImportProblem.import_id == job.id).order_by(ImportProblem.line).limit(1000)
    return session.scalars(found).all()


@router.get("/prompts", response_model=list[PromptShape])
def prompts(
    member: Admin,
    session: SessionDep,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Any:
    """Prompts in the order of ids; `after` is the last id of the page before."""
    found = select(Prompt).where(Prompt.project_id == member.project.id, Prompt.id > after)
    return session.scalars(found.order_by(Prompt.id).limit(limit)).all()


@router.put("/prompts/{prompt_id}/warnings", status_code=204)
def mark(member: Admin, prompt_id: int, body: Marked, session: SessionDep) -> Response:
    """Say which content a prompt and its responses may hold; raters are warned of it from now on."""
    set_warnings(session, member.project, prompt_id, body.warnings, person_id=member.person.id)
    return Response(status_code=204)


@router.get("/export/{what}.{format}")
def download(member: Admin, what: str, format: str, request: Request) -> StreamingResponse:  # noqa: A002
    """`rankings`, `preferences` or `demonstrations`, as jsonl, csv or parquet."""
    content = export.stream(request.app.state.engine, member.project, what=what, format=format)
    headers = {"Content-Disposition": f'attachment; filename="{member.project.slug}-{what}.{format}"'}
    return StreamingResponse(content, media_type=export.FORMATS[format], headers=headers)
