"""`attune`: everything from a terminal. Each command imports what it needs when it runs."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts import service as accounts
from app.accounts.models import Person
from app.errors import AppError
from app.projects.models import Project, Role
from app.refusals import EXPECTED, sentence_of

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
user_cli = typer.Typer(no_args_is_help=True, help="People and their sign-in links.")
project_cli = typer.Typer(no_args_is_help=True, help="Projects.")
token_cli = typer.Typer(no_args_is_help=True, help="API tokens.")
cli.add_typer(user_cli, name="user")
cli.add_typer(project_cli, name="project")
cli.add_typer(token_cli, name="token")
console = Console()
Port = Annotated[int, typer.Option(min=1, max=65535, help="Where the website listens, on loopback.")]


def main() -> None:
    """Run; a refusal is one sentence on standard error and exit status 1."""
    try:
        cli()
    except EXPECTED as error:
        print(f"attune: {sentence_of(error)}", file=sys.stderr)
        sys.exit(1)


@cli.command()
def up(
    port: Port = 8000,
    model: Annotated[str | None, typer.Option(help="A Hugging Face folder or name for the demo.")] = None,
    demo: Annotated[bool, typer.Option(help="Make the demo on the first start.")] = True,
) -> None:
    """Start everything on this machine: Postgres, Valkey, website, workers, clock."""
    from app.up import up as start

    start(port=port, model=model, demo=demo, console=console)


@cli.command()
def down() -> None:
    """Stop embedded servers that a crash left running."""
    from app.up import down as stop

    stop()


@cli.command()
def demo(
    model: Annotated[str | None, typer.Option(help="A Hugging Face folder or name.")] = None, port: Port = 8000
) -> None:
    """The same as `up`, with the demo on a model of yours."""
    from app.up import up as start

    start(port=port, model=model, console=console)


@cli.command()
def serve(
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
) -> None:
    """The website alone, for servers; DATABASE_URL and REDIS_URL say where the rest is."""
    import uvicorn

    from app.config import get_settings
    from app.metrics import share_between_processes

    _demand(get_settings().database_url)
    if workers > 1:
        share_between_processes(get_settings().data_dir / "metrics")
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


@cli.command()
def worker(queue: Annotated[str, typer.Option(help="gpu trains, cpu imports.")] = "gpu") -> None:
    """A Celery worker for one queue."""
    import os

    if queue not in {"gpu", "cpu"}:
        raise AppError(f"There is no queue {queue!r}: choose gpu or cpu.")
    quiet = ["--without-gossip", "--without-mingle", "-O", "fair", "-c", "1", "-l", "warning"]
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-Q", queue, "-n", f"{queue}@%h"]
    os.execv(sys.executable, [*command, *quiet])  # noqa: S606 - no shell is wanted


@cli.command()
def clock() -> None:
    """The clock: takes back lost runs, starts due ones."""
    import os

    os.execv(sys.executable, [sys.executable, "-m", "worker.clock"])  # noqa: S606


@cli.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    from app import migrations
    from app.config import get_settings

    migrations.upgrade(_demand(get_settings().database_url))
    console.print("The database is up to date.")


@cli.command("first-admin")
def first_admin() -> None:
    """A one-time link that makes the first admin, on a database without people."""
    from app.config import get_settings

    with _transaction() as session:
        if session.scalar(select(Person.id).where(Person.is_site_admin)) is not None:
            raise AppError("There is an admin already. Ask them for an invitation, or use `attune user link`.")
        token = accounts.create_link(session, "first_admin")
    console.print(f"{get_settings().public_url}/link/{token}", soft_wrap=True)


@user_cli.command("add")
def user_add(email: str, name: str, site_admin: bool = False) -> None:
    """Add a person and print a one-time sign-in link."""
    from app.config import get_settings

    with _transaction() as session:
        person = accounts.create_person(session, email, name=name, is_site_admin=site_admin)
        token = accounts.create_link(session, "sign_in", person_id=person.id)
    console.print(f"{get_settings().public_url}/link/{token}", soft_wrap=True)


@user_cli.command("link")
def user_link(email: str) -> None:
    """Print a one-time sign-in link for somebody."""
    from app.config import get_settings

    with _transaction() as session:
        token = accounts.create_link(session, "sign_in", person_id=_person(session, email).id)
    console.print(f"{get_settings().public_url}/link/{token}", soft_wrap=True)


@token_cli.command("create")
def token_create(email: str, name: str, scope: Annotated[list[str], typer.Option(help="A role; repeat it.")]) -> None:
    """Make an API token for somebody and print it, once."""
    unknown = set(scope) - {role.value for role in Role}
    if unknown:
        raise AppError(f"There is no scope {sorted(unknown)[0]!r}: choose from rater, admin, operator, overseer.")
    with _transaction() as session:
        _, token = accounts.create_api_token(session, _person(session, email), name=name, scopes=scope)
    print(token)


@project_cli.command("list")
def project_list() -> None:
    """All projects."""
    with _transaction() as session:
        for project in session.scalars(select(Project).order_by(Project.slug)):
            console.print(f"{project.slug}\t{project.name}")


@project_cli.command("create")
def project_create(slug: str, name: str, admin: str, template: str = "ranking") -> None:
    """Make a project from a template, with its admin (an email)."""
    from app.projects.service import create_project

    with _transaction() as session:
        project = create_project(session, _person(session, admin), slug=slug, name=name, template=template)
    console.print(f"Made {project.slug}.")


@cli.command("import")
def import_file(
    file: Path,
    project: Annotated[str, typer.Option(help="The project's slug.")],
    format: Annotated[str, typer.Option(help="auto, or one of the formats in the manual.")] = "auto",  # noqa: A002
    keep_good_lines: Annotated[bool, typer.Option(help="Import the good lines of a file with bad ones.")] = False,
) -> None:
    """Import prompts, responses, preferences or rankings from a file."""
    from app.exchange.commands import import_from_terminal

    import_from_terminal(_engine(), file, slug=project, format=format, keep_good_lines=keep_good_lines, console=console)


@cli.command("export")
def export(
    project: Annotated[str, typer.Option(help="The project's slug.")],
    out: Path,
    what: Annotated[str, typer.Option(help="rankings, preferences or demonstrations.")] = "rankings",
) -> None:
    """Export rankings, preferences or demonstrations to a .jsonl, .csv or .parquet file."""
    from app.exchange.commands import export_to_file

    num_bytes = export_to_file(_engine(), slug=project, out=out, what=what)
    console.print(f"Wrote {num_bytes:,} bytes to {out}.")


@cli.command()
def train(
    project: Annotated[str, typer.Option(help="The project's slug.")],
    kind: Annotated[str, typer.Option(help="sft, reward, ppo, loop or sample.")] = "loop",
) -> None:
    """Ask for a training run; a worker does it."""
    from app.training.models import Kind
    from app.training.service import request_run

    if kind not in set(Kind):
        raise AppError(f"There is no kind of run {kind!r}: choose from {', '.join(Kind)}.")
    with _transaction() as session:
        run = request_run(session, _project(session, project), kind, trigger="command line")
    console.print(f"Run {run.id} is queued.")


@cli.command()
def simulate(
    raters: int = 8,
    oracle: str = "warm_brief",
    noise: float = 0.1,
    project: str = "concierge",
    url: Annotated[str, typer.Option(help="Where Attune answers.")] = "",
    rankings: Annotated[int, typer.Option(help="Stop after this many; 0 goes on until nothing is left.")] = 0,
    think_seconds: float = 0.0,
) -> None:
    """Simulated raters, over HTTP as real ones; their rankings are marked as simulated."""
    from app.config import get_settings
    from app.demo.simulate import simulate_from_terminal

    simulate_from_terminal(
        _engine(),
        url=url or get_settings().public_url,
        slug=project,
        num_raters=raters,
        oracle=oracle,
        noise=noise,
        num_rankings=rankings,
        think_seconds=think_seconds,
        console=console,
    )


@cli.command("verify-audit")
def verify_audit() -> None:
    """Check the audit trail's chain of hashes from its beginning."""
    from app import audit

    with _transaction() as session:
        broken = audit.first_broken(session)
    if broken is not None:
        raise AppError(f"The audit trail is broken at event {broken}: it was changed after it was written.")
    console.print("The audit trail is whole.")


def _engine() -> Engine:
    """An engine on DATABASE_URL, or on the embedded Postgres of the data folder."""
    import app.tables  # noqa: F401 - some tables are read by name
    from app.config import get_settings
    from app.db import make_engine
    from app.up import settings_with, start_servers

    settings = get_settings()
    if not settings.database_url:
        if not (settings.data_dir / "postgres").exists():
            raise AppError("There is no database: set DATABASE_URL, or start Attune once with `attune up`.")
        port = int(settings.public_url.rsplit(":", 1)[-1]) if settings.public_url.count(":") > 1 else 8000
        settings = settings_with(settings, start_servers(settings), port=port)
    return make_engine(settings)


def _transaction() -> AbstractContextManager[Session]:
    from app.db import transaction

    return transaction(_engine())


def _demand(database_url: str) -> str:
    if not database_url:
        raise AppError("Set DATABASE_URL to the address of a Postgres server.")
    return database_url


def _person(session: Session, email: str) -> Person:
    person = session.scalar(select(Person).where(Person.email == email.strip().lower()))
    if person is None:
        raise AppError(f"Nobody has the address {email}. Add them with `attune user add`.")
    return person


def _project(session: Session, slug: str) -> Project:
    project = session.scalar(select(Project).where(Project.slug == slug))
    if project is None:
        raise AppError(f"There is no project {slug!r}; `attune project list` names them.")
    return project


if __name__ == "__main__":
    main()
