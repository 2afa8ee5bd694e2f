"""One's own account as JSON, and new people for site admins."""

import datetime as dt

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select

from app.accounts import service
from app.accounts.deps import InPerson, SignedIn, SiteAdmin
from app.accounts.models import ApiToken
from app.api.shapes import Answer, Body
from app.keys import COMMANDS, Keymap, clean_keymap, keymap_of
from app.projects.models import Role
from app.web import SessionDep, SettingsDep

router = APIRouter(tags=["accounts"])


class Me(Answer):
    """Who the caller is. `scopes` is null for a browser session."""

    id: int
    name: str
    email: str
    pseudonym: str
    is_site_admin: bool
    scopes: list[str] | None


class TokenAnswer(Answer):
    """What is known of an API token; never the token itself."""

    id: int
    name: str
    hint: str
    scopes: list[str]
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    expires_at: dt.datetime | None


class NewToken(Body):
    """A token to be made."""

    name: str = Field(min_length=1, max_length=100)
    scopes: list[str] = Field(min_length=1, max_length=len(Role), description="Roles that the token may use.")
    days: int | None = Field(None, ge=1, le=3650, description="Days until it expires; null means never.")


class MadeToken(TokenAnswer):
    """The only answer that shows the token."""

    token: str


class NewPerson(Body):
    """A person to be made; they come in by the one-time link of the answer."""

    email: str = Field(max_length=254)
    name: str = Field(min_length=1, max_length=100)
    is_site_admin: bool = False


class MadePerson(Answer):
    """The new person, and their sign-in link, shown this once."""

    id: int
    pseudonym: str
    sign_in_link: str


class KeyedCommand(Answer):
    """Something that a key does at the desk, and the keys that do it for the caller."""

    name: str
    words: str
    keys: list[str]
    default_keys: list[str]


class KeysAnswer(Answer):
    """One's keys at the desk."""

    single_keys: bool
    commands: list[KeyedCommand]


class NewKeys(Body):
    """The keys that one wants. Commands that are not named get their usual keys."""

    single_keys: bool = Field(default=True, description="Whether keys that are single characters work.")
    keys: dict[str, list[str]] = Field(default_factory=dict, description='Such as {"skip": ["s", "F2"], "note": []}.')


@router.get("/me")
def me(caller: SignedIn) -> Me:
    """Who the caller is."""
    person = caller.person
    return Me(
        id=person.id,
        name=person.name,
        email=person.email,
        pseudonym=person.pseudonym,
        is_site_admin=person.is_site_admin,
        scopes=None if caller.scopes is None else sorted(caller.scopes),
    )


@router.get("/me/keys")
def my_keys(caller: SignedIn) -> KeysAnswer:
    """Which key does what at the desk for the caller."""
    return _keys_answer(keymap_of(caller.person.preferences))


@router.put("/me/keys")
def change_my_keys(caller: SignedIn, body: NewKeys, session: SessionDep) -> KeysAnswer:
    """Have exactly these keys; `{}` brings the usual ones back."""
    keymap = clean_keymap(body.keys, single_keys=body.single_keys)
    service.set_keymap(session, caller.person.id, keymap)
    return _keys_answer(keymap)


def _keys_answer(keymap: Keymap) -> KeysAnswer:
    commands = [
        KeyedCommand(name=c.name, words=c.words, keys=list(keymap.of(c.name)), default_keys=list(c.keys))
        for c in COMMANDS
    ]
    return KeysAnswer(single_keys=keymap.single_keys, commands=commands)


@router.get("/tokens")
def tokens(caller: SignedIn, session: SessionDep) -> list[TokenAnswer]:
    """One's own tokens that are not revoked."""
    mine = select(ApiToken).where(ApiToken.person_id == caller.person.id, ApiToken.revoked_at.is_(None))
    return [TokenAnswer.model_validate(row) for row in session.scalars(mine.order_by(ApiToken.id))]


@router.post("/tokens", status_code=201)
def create_token(caller: InPerson, body: NewToken, session: SessionDep) -> MadeToken:
    """Make a token. A browser session is needed: a token cannot make a stronger one."""
    row, token = service.create_api_token(session, caller.person, name=body.name, scopes=body.scopes, days=body.days)
    session.refresh(row)
    return MadeToken(token=token, **TokenAnswer.model_validate(row).model_dump())


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(caller: SignedIn, token_id: int, session: SessionDep) -> None:
    """End one of one's own tokens, the one in use included; twice is harmless."""
    service.revoke_api_token(session, caller.person, token_id=token_id)


@router.post("/people", status_code=201)
def create_person(caller: SiteAdmin, body: NewPerson, session: SessionDep, settings: SettingsDep) -> MadePerson:
    """Make an account with a one-time sign-in link, good for 24 hours."""
    person = service.create_person(session, body.email, name=body.name, is_site_admin=body.is_site_admin)
    token = service.create_link(session, "sign_in", person_id=person.id, created_by_id=caller.person.id)
    return MadePerson(
        id=person.id, pseudonym=person.pseudonym, sign_in_link=f"{settings.public_url.rstrip('/')}/link/{token}"
    )
