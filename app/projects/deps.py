"""Permissions inside a project. The path parameter `slug` names it; not being a member looks like not existing."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select

from app.accounts.deps import MaybeCaller, Permission
from app.accounts.models import Person
from app.accounts.service import Caller
from app.errors import Forbidden, NotFound, NotSignedIn
from app.projects.models import Membership, Project, Role
from app.web import SessionDep


@dataclass(frozen=True)
class Member:
    """A caller in a project, with the roles that count for this request (a token's scopes narrow them)."""

    caller: Caller
    project: Project
    roles: frozenset[str]

    @property
    def person(self) -> Person:
        """Who it is."""
        return self.caller.person

    def has(self, role: str) -> bool:
        """Whether the member holds this role; for templates."""
        return role in self.roles


class RolePermission(Permission):
    """The caller holds one of these roles in the project of the path."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)
        self.name = " or ".join(sorted(roles))

    def __call__(self, slug: str, request: Request, session: SessionDep, caller: MaybeCaller) -> Member:
        if caller is None:
            raise NotSignedIn("Sign in first.")
        query = (
            select(Project, Membership.role)
            .join(Membership, Membership.project_id == Project.id)
            .where(Project.slug == slug, Membership.person_id == caller.person.id)
        )
        rows = session.execute(query).all() if "\x00" not in slug else []
        if not rows:
            raise NotFound("There is no such project, or you are not a member of it.")
        held = frozenset(row.role for row in rows)
        roles = held if caller.scopes is None else held & caller.scopes
        member = Member(caller, rows[0].Project, roles)
        session.expunge(member.project)  # A rollback would empty it, and the page that tells why shows it.
        if not roles & self.roles:
            raise Forbidden(f"This needs the role {self.name} in {member.project.name}. Ask an admin of the project.")
        request.state.member = member
        return member


Rater = Annotated[Member, Depends(RolePermission(Role.RATER))]
Admin = Annotated[Member, Depends(RolePermission(Role.ADMIN))]
Operator = Annotated[Member, Depends(RolePermission(Role.OPERATOR))]
Overseer = Annotated[Member, Depends(RolePermission(Role.OVERSEER))]
Staff = Annotated[Member, Depends(RolePermission(Role.ADMIN, Role.OPERATOR, Role.OVERSEER))]
AdminOrOperator = Annotated[Member, Depends(RolePermission(Role.ADMIN, Role.OPERATOR))]
AnyMember = Annotated[Member, Depends(RolePermission(*Role))]
