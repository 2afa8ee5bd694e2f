"""The containers, as far as files can tell: consistent with each other, with the settings and with the command line."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from app.cli import cli
from app.config import Settings

ROOT = Path(__file__).resolve().parent.parent
ATTUNE = ["migrate", "web", "clock", "light", "trainer"]
TEXT = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_LIVED = sorted(set(SERVICES) - {"migrate"})
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(:[-?])?([^}]*)\}")


@pytest.mark.parametrize("name", LONG_LIVED)
def test_every_service_that_stays_has_a_health_check_and_comes_back(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert len(check["test"]) > 1
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_dependencies_and_volumes_exist(name: str) -> None:
    service = SERVICES[name]
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
    for volume in service.get("volumes", []):
        assert volume.split(":")[0] in COMPOSE["volumes"]


def test_passwords_have_no_default_and_say_what_to_do() -> None:
    secrets = [found for found in VARIABLE.findall(TEXT) if "PASSWORD" in found[0]]
    assert {name for name, _, _ in secrets} == {"POSTGRES_PASSWORD", "VALKEY_PASSWORD"}
    for _, operator, sentence in secrets:
        assert operator == ":?"
        assert sentence.startswith("Set ")
        assert sentence.endswith(".")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_password_is_written_down(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN|AUTH", key):
            assert VARIABLE.fullmatch(value), key
        if "://" in value and "@" in value:
            assert re.search(r":\$\{[^}]+\}@", value), key


@pytest.mark.parametrize("name", ATTUNE)
def test_commands_are_commands_of_attune(name: str) -> None:
    program, command, *options = SERVICES[name]["command"]
    assert program == "attune"
    commands = get_command(cli)
    parsed = commands.commands[command].make_context(command, options)  # type: ignore[attr-defined]
    assert parsed.params is not None


@pytest.mark.parametrize("name", ATTUNE)
def test_environment_names_are_settings(name: str) -> None:
    known = {f"ATTUNE_{field}".upper() for field in Settings.model_fields} | {"DATABASE_URL", "REDIS_URL"}
    foreign = {"FORWARDED_ALLOW_IPS"}  # uvicorn's own
    assert set(SERVICES[name]["environment"]) <= known | foreign


def test_production_settings_accept_what_compose_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"ATTUNE_PUBLIC_URL": "https://attune.example.org", "POSTGRES_PASSWORD": "p", "VALKEY_PASSWORD": "v"}
    for name, value in SERVICES["web"]["environment"].items():
        monkeypatch.setenv(name, VARIABLE.sub(lambda found: _value(found, given), str(value)))
    settings = Settings()
    assert settings.environment == "production"
    assert settings.secure_cookies
    assert settings.database_url == "postgresql+psycopg://attune:p@postgres:5432/attune"
    assert settings.redis_url == "redis://:v@valkey:6379/0"


def test_only_the_website_is_published_and_on_loopback_unless_asked() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"web": ["${ATTUNE_BIND:-127.0.0.1}:${ATTUNE_PORT:-8000}:8000"]}


def test_two_web_processes_serve() -> None:
    command = SERVICES["web"]["command"]
    assert command[command.index("--workers") + 1] == "2"


@pytest.mark.parametrize("name", ["migrate", "web", "clock", "light", "trainer"])
def test_everybody_who_needs_files_shares_the_data_folder(name: str) -> None:
    assert "data:/data" in SERVICES[name]["volumes"]
    assert SERVICES[name]["environment"]["ATTUNE_DATA_DIR"] == "/data"


def test_postgres_has_the_locale_and_the_checksums_of_the_embedded_one() -> None:
    from app.embedded.postgres import BUILTIN_LOCALE, INITDB, MAJOR

    arguments = SERVICES["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    assert {*BUILTIN_LOCALE, "--locale=C", "--data-checksums"} <= set(arguments)
    assert "--data-checksums" in INITDB
    assert SERVICES["postgres"]["image"] == f"postgres:{MAJOR}"


def test_images_are_targets_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE))
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert built == {"web", "trainer"}
    assert built <= targets


def test_the_website_image_has_no_torch_and_nobody_is_root() -> None:
    web = DOCKERFILE.split("AS web")[1].split("FROM")[0]
    assert "-e .\n" in web
    assert DOCKERFILE.count("USER attune") == 2


def test_what_the_dockerfile_copies_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        part for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE) for part in line.split()
    ]
    assert copied
    for name in copied:
        assert name == "." or ((ROOT / name).exists() and name.split("/")[0] in kept), name


def test_a_worker_is_pinged_by_the_name_it_takes() -> None:
    for name, queue in (("light", "cpu"), ("trainer", "gpu")):
        assert SERVICES[name]["command"][-1] == queue
        assert f"-d {queue}@$$HOSTNAME" in SERVICES[name]["healthcheck"]["test"][1]


def _value(found: re.Match[str], given: dict[str, str]) -> str:
    name, operator, default = found.groups()
    return given.get(name, default if operator == ":-" else "")
