"""Who is asking, and how they proved it: passwords, sessions, one-time links, API tokens."""

import datetime as dt
import hashlib
import secrets
import threading
import unicodedata
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app import audit
from app.accounts.models import ApiToken, OneTimeLink, Person, SignInSession
from app.accounts.passwords import check_password_rules
from app.config import Settings
from app.errors import Conflict, Forbidden, Invalid, NotFound, NotSignedIn
from app.keys import Keymap

SEEN_EVERY = dt.timedelta(seconds=60)
MAX_SESSIONS = 20
SCOPES = ("rater", "admin", "operator", "overseer")
_hasher = PasswordHasher()
_hashing = threading.Semaphore(2)  # argon2 takes 64 MiB a call; many at once would exhaust memory.
_UNKNOWN_PERSON = _hasher.hash(secrets.token_urlsafe())


@dataclass(frozen=True)
class Caller:
    """The person behind a request and the means they used. `scopes` is None for a browser session."""

    person: Person
    session_id: int | None = None
    scopes: frozenset[str] | None = None
    csrf_token: str = ""


def token_hash(token: str) -> bytes:
    """What is stored of a random token of 256 bits; such a token needs no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def csrf_token(session_token: str) -> str:
    """The token that forms carry, bound to the session without a second secret."""
    return hashlib.sha256(b"csrf:" + session_token.encode()).hexdigest()


def clean_email(email: str) -> str:
    """The one spelling of an address that is stored and compared."""
    cleaned = unicodedata.normalize("NFKC", email).strip().lower()
    if not (3 <= len(cleaned) <= 254) or cleaned.count("@") != 1 or cleaned.startswith("@") or cleaned.endswith("@"):
        raise Invalid("That is not an email address. Give one such as ada@example.org.", field="email")
    if any(character.isspace() or not character.isprintable() for character in cleaned):
        raise Invalid("An email address cannot contain spaces or control characters.", field="email")
    return cleaned


def clean_name(name: str) -> str:
    """A person's name as shown, without control characters."""
    cleaned = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(cleaned) <= 100 or not cleaned.isprintable():
        raise Invalid("A name needs 1 to 100 printable characters.", field="name")
    return cleaned


def set_keymap(session: Session, person_id: int, keymap: Keymap) -> None:
    """The keys that this person uses from now on; other preferences stay as they are."""
    mine = update(Person).where(Person.id == person_id).execution_options(synchronize_session=False)
    session.execute(mine.values(preferences=Person.preferences.concat(keymap.stored)))


def create_person(
    session: Session,
    email: str,
    *,
    name: str,
    password: str | None = None,
    is_site_admin: bool = False,
    is_simulated: bool = False,
) -> Person:
    """Add someone. Without a password they come in by one-time link and choose one.

    Raises:
        Conflict: the address is taken.
    """
    address = clean_email(email)
    if session.scalar(select(Person.id).where(Person.email == address)):
        raise Conflict(f"{address} already has an account. Add that person to the project instead.", field="email")
    person = Person(email=address, name=clean_name(name), is_site_admin=is_site_admin, is_simulated=is_simulated)
    if password is not None:
        person.password_hash = hash_password(password, email=address)
    session.add(person)
    session.flush()
    return person


def hash_password(password: str, *, email: str = "") -> str:
    """argon2id with the library's defaults, after the rules for new passwords."""
    check_password_rules(password, email=email)
    with _hashing:
        return _hasher.hash(password)


def authenticate(session: Session, email: str, *, password: str) -> Person:
    """The person with this address and password. Unknown and wrong take the same time and say the same."""
    refusal = NotSignedIn("Email and password do not match. Check both, or ask an admin for a sign-in link.")
    person = session.scalar(select(Person).where(Person.email == email.strip().lower())) if email else None
    stored = person.password_hash if person and person.password_hash else _UNKNOWN_PERSON
    try:
        with _hashing:
            _hasher.verify(stored, password[:4096])
    except (VerifyMismatchError, InvalidHashError):
        raise refusal from None
    if person is None or not person.is_active or stored is _UNKNOWN_PERSON:
        raise refusal
    return person


def start_session(session: Session, person: Person, *, user_agent: str = "") -> str:
    """Sign this person in; returns the token for the cookie. The oldest sessions end when there are too many."""
    token = secrets.token_urlsafe(32)
    session.add(SignInSession(token_hash=token_hash(token), person_id=person.id, user_agent=user_agent[:200]))
    session.flush()
    newest = select(SignInSession.id).where(SignInSession.person_id == person.id)
    keep = newest.order_by(SignInSession.id.desc()).limit(MAX_SESSIONS)
    session.execute(delete(SignInSession).where(SignInSession.person_id == person.id, SignInSession.id.not_in(keep)))
    return token


def caller_of_session(session: Session, token: str, *, settings: Settings) -> Caller | None:
    """Who holds this cookie, or None when the session is unknown, idle too long or too old."""
    idle = dt.timedelta(minutes=settings.session_idle_minutes)
    absolute = dt.timedelta(hours=settings.session_absolute_hours)
    query = (
        select(SignInSession, Person, (func.now() - SignInSession.last_seen_at).label("idle"))
        .join(Person, Person.id == SignInSession.person_id)
        .where(SignInSession.token_hash == token_hash(token), Person.is_active)
        .where(SignInSession.last_seen_at > func.now() - idle, SignInSession.created_at > func.now() - absolute)
    )
    row = session.execute(query).first()
    if row is None:
        return None
    if row.idle > SEEN_EVERY:
        seen = update(SignInSession).where(SignInSession.id == row.SignInSession.id)
        session.execute(seen.values(last_seen_at=func.now()).execution_options(synchronize_session=False))
    return Caller(row.Person, session_id=row.SignInSession.id, csrf_token=csrf_token(token))


def end_session(session: Session, token: str) -> None:
    """Sign out."""
    session.execute(delete(SignInSession).where(SignInSession.token_hash == token_hash(token)))


def end_all_sessions(session: Session, person_id: int) -> None:
    """Sign out everywhere, as after a change of password."""
    session.execute(delete(SignInSession).where(SignInSession.person_id == person_id))


def create_link(
    session: Session,
    purpose: str,
    *,
    person_id: int | None = None,
    project_id: int | None = None,
    roles: list[str] | None = None,
    label: str = "",
    created_by_id: int | None = None,
    hours: float = 24,
) -> str:
    """A one-time link's token: `invitation`, `sign_in` or `first_admin`. Only its hash is stored."""
    token = secrets.token_urlsafe(32)
    link = OneTimeLink(
        token_hash=token_hash(token),
        purpose=purpose,
        person_id=person_id,
        project_id=project_id,
        roles=roles or [],
        label=label,
        created_by_id=created_by_id,
        expires_at=session.scalar(select(func.now() + dt.timedelta(hours=hours))),
    )
    session.add(link)
    session.flush()
    return token


def peek_link(session: Session, token: str) -> OneTimeLink:
    """The link behind a token, still unused.

    Raises:
        NotFound: used, expired or never made; which of them is not told.
    """
    usable = (OneTimeLink.used_at.is_(None), OneTimeLink.expires_at > func.now())
    link = session.scalar(select(OneTimeLink).where(OneTimeLink.token_hash == token_hash(token), *usable))
    if link is None:
        raise NotFound("This link was used already or has expired. Ask for a new one.")
    return link


def use_link(session: Session, token: str) -> OneTimeLink:
    """Spend a one-time link: of two at once, one wins."""
    link = peek_link(session, token)
    spent = update(OneTimeLink).where(OneTimeLink.id == link.id, OneTimeLink.used_at.is_(None))
    if session.execute(spent.values(used_at=func.now())).rowcount != 1:  # type: ignore[attr-defined]
        raise NotFound("This link was used already or has expired. Ask for a new one.")
    return link


def create_api_token(
    session: Session, person: Person, *, name: str, scopes: list[str], days: int | None = None
) -> tuple[ApiToken, str]:
    """A token for programs, limited to `scopes` (roles). The second value is shown once and never again.

    Raises:
        Invalid: no scope, or one that is not a role.
    """
    if not scopes or set(scopes) - set(SCOPES):
        raise Invalid(f"Choose at least one of the scopes: {', '.join(SCOPES)}.", field="scopes")
    token = "att_" + secrets.token_urlsafe(32)
    expires = session.scalar(select(func.now() + dt.timedelta(days=days))) if days else None
    row = ApiToken(
        token_hash=token_hash(token),
        hint=token[:8],
        name=clean_name(name),
        person_id=person.id,
        scopes=sorted(set(scopes)),
        expires_at=expires,
    )
    session.add(row)
    session.flush()
    audit.record(session, "token.created", subject=f"api_token:{row.id}", actor_id=person.id)
    return row, token


def caller_of_api_token(session: Session, token: str) -> Caller | None:
    """Who holds this API token, or None when it is unknown, revoked or expired."""
    query = (
        select(ApiToken, Person, func.coalesce(func.now() - ApiToken.last_used_at > SEEN_EVERY, True).label("stale"))
        .join(Person, Person.id == ApiToken.person_id)
        .where(ApiToken.token_hash == token_hash(token), ApiToken.revoked_at.is_(None), Person.is_active)
        .where((ApiToken.expires_at.is_(None)) | (ApiToken.expires_at > func.now()))
    )
    row = session.execute(query).first()
    if row is None:
        return None
    if row.stale:
        used = update(ApiToken).where(ApiToken.id == row.ApiToken.id)
        session.execute(used.values(last_used_at=func.now()).execution_options(synchronize_session=False))
    return Caller(row.Person, scopes=frozenset(row.ApiToken.scopes))


def revoke_api_token(session: Session, person: Person, *, token_id: int) -> None:
    """End one of one's own tokens; revoking twice is harmless."""
    row = session.scalar(select(ApiToken).where(ApiToken.id == token_id, ApiToken.person_id == person.id))
    if row is None:
        raise NotFound("You have no such token.")
    session.execute(update(ApiToken).where(ApiToken.id == row.id).values(revoked_at=func.now()))
    audit.record(session, "token.revoked", subject=f"api_token:{row.id}", actor_id=person.id)


def demand_site_admin(caller: Caller) -> None:
    """Only site admins create projects and people; a token of theirs needs the scope `admin`."""
    if caller.scopes is not None and "admin" not in caller.scopes:
        raise Forbidden("This token lacks the scope admin. Make one that has it, under Account.")
    if not caller.person.is_site_admin:
        raise Forbidden("Only a site admin may do this. Ask the person who set Attune up.")


def demand_in_person(caller: Caller) -> None:
    """Accounts are changed by people in a browser, not by programs with a token."""
    if caller.scopes is not None:
        raise Forbidden("This cannot be done with an API token. Sign in with a browser.")
