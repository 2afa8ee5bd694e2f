"""Deciding on policies: by an overseer who did not start the run, on the very files that were evaluated."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import audit
from app.errors import Conflict, Forbidden, Invalid
from app.oversight.models import Approval
from app.projects.models import Project
from app.training.models import Kind, ModelVersion, Run
from app.training.service import get_version, make_serving, request_if_due, request_run

DECISIONS = ("approve", "refuse")


def decide(
    session: Session, project: Project, version_id: int, *, person_id: int, decision: str, reason: str
) -> ModelVersion:
    """Approve a candidate, which then serves and writes the next responses; or refuse it.

    Raises:
        Forbidden: this person started the run. Conflict: it is no candidate (any more). Invalid: no reason given.
    """
    if decision not in DECISIONS:
        raise Invalid("Decide: approve or refuse.", field="decision")
    if not 3 <= len(reason.strip()) <= 2000 or "\x00" in reason:
        raise Invalid("Say why, in 3 to 2,000 characters: others will read it.", field="reason")
    version = get_version(session, project, version_id)
    requester_id = requester_of(session, version)
    if why_not := why_not_decide(version, person_id=person_id, requester_id=requester_id):
        raise (Conflict if version.state != "candidate" else Forbidden)(why_not)
    session.add(
        Approval(
            model_version_id=version.id,
            person_id=person_id,
            requester_id=requester_id,
            decision=decision,
            reason=reason.strip(),
            manifest_hash=version.manifest_hash,
        )
    )
    if decision == "approve":
        make_serving(session, version, only_from=("candidate",))
        request_run(session, project, Kind.SAMPLE, trigger="approval", unless_active=True)
    else:
        _refuse(session, version)
        request_if_due(session, project)
    _record(session, project, version, action=f"version.{decision}d", person_id=person_id)
    return version


def roll_back(session: Session, project: Project, version_id: int, *, person_id: int) -> ModelVersion:
    """Let a retired policy serve again.

    Raises:
        Conflict: it is not retired.
    """
    version = get_version(session, project, version_id)
    if version.state != "retired":
        raise Conflict("Only a policy that served before, and was retired, can be brought back.")
    make_serving(session, version, only_from=("retired",))
    _record(session, project, version, action="version.rolled_back", person_id=person_id)
    return version


def requester_of(session: Session, version: ModelVersion) -> int | None:
    """Who started the run that made this version; None when the threshold did."""
    return session.scalar(select(Run.started_by_id).where(Run.id == version.run_id)) if version.run_id else None


def why_not_decide(version: ModelVersion, *, person_id: int, requester_id: int | None) -> str:
    """Why this person cannot decide on this version; empty when they can."""
    if version.kind != "policy" or version.state != "candidate":
        return f"This version is {version.state}: there is nothing to decide."
    if requester_id == person_id:
        return "You started the run that made this policy. Another overseer must decide on it."
    return ""


def decisions_on(session: Session, version: ModelVersion) -> list[Approval]:
    """All decisions, oldest first."""
    return list(session.scalars(select(Approval).where(Approval.model_version_id == version.id).order_by(Approval.id)))


def _refuse(session: Session, version: ModelVersion) -> None:
    refuse = update(ModelVersion).where(ModelVersion.id == version.id, ModelVersion.state == "candidate")
    if session.execute(refuse.values(state="refused")).rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict("Someone else has just decided on this policy. Look again.")
    session.refresh(version)


def _record(session: Session, project: Project, version: ModelVersion, *, action: str, person_id: int) -> None:
    audit.record(
        session,
        action,
        subject=f"model_version:{version.id}",
        actor_id=person_id,
        project_id=project.id,
        details={"manifest": version.manifest_hash},
    )
