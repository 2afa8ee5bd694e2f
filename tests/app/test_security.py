"""Headers, cookies, cross-site requests, hosts and body sizes: what holds whatever the route."""

import asyncio
import json
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.accounts.deps import COOKIE, SECURE_COOKIE
from app.accounts.models import Person
from app.config import Settings
from app.db import transaction
from app.main import create_app
from app.projects.models import Project
from app.security import is_same_origin
from app.web import safe_path

PASSWORD = "seven blue herons at dawn"
SignIn = Callable[[Person], TestClient]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def missing(headers: object) -> list[str]:
    """The security headers that an answer lacks."""
    return [name for name, value in HEADERS.items() if value not in headers.get(name, "")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/sign-in", 200),
        ("GET", "/", 303),
        ("GET", "/nothing/here", 404),
        ("GET", "/static/css/base.css", 200),
        ("GET", "/static/nothing.css", 404),
        ("DELETE", "/sign-in", 405),
        ("GET", "/api/v1/me", 401),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/healthz", 200),
    ],
)
def test_security_headers_are_on_every_answer(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert missing(answer.headers) == []


def test_security_headers_are_on_the_page_of_a_bug(app: FastAPI) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a secret: hunter2")

    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as browser:
        answer = browser.get("/broken")
    assert answer.status_code == 500
    assert missing(answer.headers) == []
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert "reference" in answer.text


def test_the_policy_allows_no_inline_script_and_no_other_host(client: TestClient) -> None:
    policy = client.get("/sign-in").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy
    for part in ("base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'", "script-src 'self'"):
        assert part in policy


def test_pages_are_not_kept_by_caches(sign_in: SignIn, make_person: Callable[..., Person]) -> None:
    assert sign_in(make_person()).get("/account").headers["Cache-Control"] == "no-store"


def test_the_session_cookie_is_out_of_reach_of_scripts(client: TestClient, make_person: Callable[..., Person]) -> None:
    person = make_person(password=PASSWORD)
    answer = client.post("/sign-in", data={"email": person.email, "password": PASSWORD})
    cookie = answer.headers["Set-Cookie"].lower()
    assert answer.status_code == 303
    assert cookie.startswith(f"{COOKIE}=")
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/;" in cookie + ";"
    assert "domain" not in cookie


def test_over_https_the_cookie_is_tied_to_host_and_transport(
    database_url: str, make_person: Callable[..., Person]
) -> None:
    settings = Settings(DATABASE_URL=database_url, REDIS_URL="", public_url="https://attune.example.org")
    person = make_person(password=PASSWORD)
    app = create_app(settings)
    with TestClient(app, base_url="https://attune.example.org", follow_redirects=False) as browser:
        answer = browser.post("/sign-in", data={"email": person.email, "password": PASSWORD})
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith(f"{SECURE_COOKIE}=")
        assert "secure" in cookie.lower()
        assert "max-age=" in answer.headers["Strict-Transport-Security"]
        assert browser.get("/account").status_code == 200
    app.state.engine.dispose()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "http://127.0.0.1:8000.evil.example"},
    ],
)
def test_another_site_cannot_act_for_a_person(
    sign_in: SignIn, make_person: Callable[..., Person], db: Engine, headers: dict[str, str]
) -> None:
    person = make_person("Ada")
    answer = sign_in(person).post("/account/name", data={"name": "Eve"}, headers=headers)
    assert answer.status_code == 403
    assert name_of(db, person) == "Ada"


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_another_site_cannot_sign_somebody_in(
    client: TestClient, make_person: Callable[..., Person], headers: dict[str, str]
) -> None:
    person = make_person(password=PASSWORD)
    answer = client.post("/sign-in", data={"email": person.email, "password": PASSWORD}, headers=headers)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("token", ["", "0" * 64, "é" * 20, "x" * 10_000])
def test_a_form_without_this_sessions_token_is_refused_and_its_text_kept(
    sign_in: SignIn, make_person: Callable[..., Person], db: Engine, token: str
) -> None:
    person = make_person("Ada")
    browser = sign_in(person)
    del browser.headers["X-CSRF-Token"]
    answer = browser.post("/account/name", data={"name": "Countess of Lovelace", "csrf_token": token})
    assert answer.status_code == 403
    assert "Countess of Lovelace" in answer.text
    assert name_of(db, person) == "Ada"


def test_a_token_of_another_session_is_refused(sign_in: SignIn, make_person: Callable[..., Person]) -> None:
    mine, other = sign_in(make_person()), sign_in(make_person())
    answer = mine.post("/account/name", data={"name": "Eve"}, headers={"X-CSRF-Token": other.headers["X-CSRF-Token"]})
    assert answer.status_code == 403


def test_the_forms_own_token_is_enough_without_scripts(
    sign_in: SignIn, make_person: Callable[..., Person], db: Engine
) -> None:
    person = make_person("Ada")
    browser = sign_in(person)
    token = browser.headers.pop("X-CSRF-Token")
    assert token in browser.get("/account").text
    assert browser.post("/account/name", data={"name": "Grace", "csrf_token": token}).status_code == 303
    assert name_of(db, person) == "Grace"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_cookie_alone_changes_nothing_through_the_api(
    sign_in: SignIn, make_person: Callable[..., Person], method: str
) -> None:
    browser = sign_in(make_person())
    del browser.headers["X-CSRF-Token"]
    path = {"POST": "/tokens", "PUT": "/projects/x/guidelines/draft", "PATCH": "/projects/x", "DELETE": "/tokens/1"}
    answer = browser.request(method, f"/api/v1{path[method]}", json={} if method != "DELETE" else None)
    assert answer.status_code == 403
    assert "another session" in answer.json()["error"]["message"]


def test_a_program_that_sends_neither_origin_nor_site_is_no_browser() -> None:
    def asked(**headers: str) -> bool:
        request = type("Request", (), {"headers": headers})()
        return is_same_origin(request)

    assert asked(Host="a.example")
    assert asked(Host="a.example", Origin="https://a.example")
    assert not asked(Host="a.example", Origin="https://a.example:8443")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example"])
def test_other_host_names_are_not_answered(client: TestClient, host: str) -> None:
    answer = client.get("/sign-in", headers={"Host": host})
    assert answer.status_code == 400
    assert "evil.example/" not in answer.text


@pytest.mark.parametrize("headers", [{"X-Forwarded-Host": "evil.example"}, {"X-Original-URL": "/account"}])
def test_headers_of_proxies_that_are_not_ours_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.get("/account", headers=headers)
    assert answer.headers["Location"] == "/sign-in?next=/account"


def test_a_method_cannot_be_overridden_by_a_header(sign_in: SignIn, make_person: Callable[..., Person]) -> None:
    browser = sign_in(make_person())
    assert browser.get("/sign-out", headers={"X-HTTP-Method-Override": "POST"}).status_code == 405
    assert browser.get("/account").status_code == 200


@pytest.mark.parametrize("kind", ["form", "json"])
def test_a_body_over_the_limit_is_told_so(
    sign_in: SignIn, make_person: Callable[..., Person], settings: Settings, kind: str
) -> None:
    browser = sign_in(make_person())
    big = "x" * (settings.max_body_bytes + 1)
    if kind == "form":
        answer = browser.post("/account/name", data={"name": big})
    else:
        answer = browser.post("/api/v1/tokens", json={"name": big, "scopes": ["rater"]})
    assert answer.status_code == 413
    assert f"{settings.max_body_bytes:,}" in answer.text
    assert missing(answer.headers) == []


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: TestClient, settings: Settings) -> None:
    def endless() -> object:
        for _ in range(settings.max_body_bytes // 1000 + 10):
            yield b"x" * 1000

    answer = client.post("/sign-in", content=endless(), headers={"Content-Type": "application/x-www-form-urlencoded"})  # type: ignore[arg-type]
    assert answer.status_code == 413


def test_who_leaves_while_sending_is_no_bug(
    app: FastAPI, sign_in: SignIn, make_person: Callable[..., Person], caplog: pytest.LogCaptureFixture
) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in sign_in(make_person()).cookies.items())
    headers = {"host": "127.0.0.1:8000", "cookie": cookie, "content-type": "application/x-www-form-urlencoded"}
    scope = {
        "type": "http", "method": "POST", "path": "/sign-out", "raw_path": b"/sign-out", "query_string": b"",
        "scheme": "http", "http_version": "1.1", "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    parts: list[dict[str, object]] = [
        {"type": "http.request", "body": b"csrf_to", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return parts.pop(0)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert parts == []
    assert [message.get("status") for message in sent] == [400, None]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


ELSEWHERE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\x00/",
    " //evil.example",
    "/a\\..\\..//evil.example",
    "/ok\r\nSet-Cookie: a=b",
    "",
]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_redirect_never_leaves_the_site(client: TestClient, make_person: Callable[..., Person], url: str) -> None:
    person = make_person(password=PASSWORD)
    answer = client.post("/sign-in", data={"email": person.email, "password": PASSWORD, "next": url})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"
    assert safe_path(url) == "/"


@pytest.mark.parametrize("url", ["/", "/account", "/projects/x/rate?from=mail", "/help/rater#keys"])
def test_a_redirect_to_a_page_of_ours_is_followed(
    client: TestClient, make_person: Callable[..., Person], url: str
) -> None:
    person = make_person(password=PASSWORD)
    answer = client.post("/sign-in", data={"email": person.email, "password": PASSWORD, "next": url})
    assert answer.headers["Location"] == url


def test_no_answer_of_the_api_holds_a_secret_or_another_persons_address(
    sign_in: SignIn,
    make_person: Callable[..., Person],
    make_project: Callable[..., Project],
    join: Callable[..., Person],
    db: Engine,
) -> None:
    project = make_project()
    admin, other = make_person(password=PASSWORD), make_person(password=PASSWORD)
    browser = sign_in(join(admin, project, "admin", "rater"))
    join(other, project, "rater")
    browser.post("/api/v1/tokens", json={"name": "nightly", "scopes": ["rater"]})
    paths = ["/me", "/tokens", "/projects", f"/projects/{project.slug}", f"/projects/{project.slug}/members"]
    said = "".join(browser.get(f"/api/v1{path}").text for path in paths)
    with transaction(db) as session:
        hashes = [person.password_hash for person in session.scalars(select(Person))]
    assert not [secret for secret in [*hashes, "password", "token_hash", other.email] if secret and secret in said]


def test_the_openapi_description_is_valid_json_for_those_signed_in(
    client: TestClient, sign_in: SignIn, make_person: Callable[..., Person]
) -> None:
    assert client.get("/api/v1/openapi.json").status_code == 401
    schema = json.loads(sign_in(make_person()).get("/api/v1/openapi.json").text)
    assert "/api/v1/projects/{slug}/guidelines/publish" in schema["paths"]


def test_a_session_cannot_be_fixed_before_sign_in(client: TestClient, make_person: Callable[..., Person]) -> None:
    person = make_person(password=PASSWORD)
    planted = {"Cookie": f"{COOKIE}=chosen-by-somebody-else"}
    answer = client.post("/sign-in", data={"email": person.email, "password": PASSWORD}, headers=planted)
    assert "chosen-by-somebody-else" not in answer.headers["Set-Cookie"]
    client.cookies.clear()
    assert client.get("/account", headers=planted).headers["Location"].startswith("/sign-in")


def test_a_wrong_token_is_told_so_on_a_page_too(client: TestClient) -> None:
    answer = client.get("/sign-in", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert "token is unknown" in answer.text


def name_of(db: Engine, person: Person) -> str:
    """The name as stored."""
    with transaction(db) as session:
        return session.get_one(Person, person.id).name
