"""Settings, read once from the environment. Each is documented here, where it is declared."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.errors import AppError


class Settings(BaseSettings):
    """Everything that differs between a laptop and a server. Names in the environment begin with `ATTUNE_`."""

    model_config = SettingsConfigDict(env_prefix="ATTUNE_", extra="ignore")

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses unsafe defaults: it demands a public address over HTTPS."
    )
    database_url: str = Field(
        "",
        validation_alias=AliasChoices("DATABASE_URL", "ATTUNE_DATABASE_URL"),
        description="SQLAlchemy address of Postgres. `attune up` starts an embedded one when it is empty.",
    )
    redis_url: str = Field(
        "",
        validation_alias=AliasChoices("REDIS_URL", "ATTUNE_REDIS_URL"),
        description="Address of Redis or Valkey for Celery. `attune up` starts an embedded one when it is empty.",
    )
    data_dir: Path = Field(
        Path("data"), description="Folder for artifacts, uploads, logs and the embedded servers. Made when missing."
    )
    public_url: str = Field(
        "http://127.0.0.1:8000", description="The address people type; its host is allowed, its scheme sets cookies."
    )
    allowed_hosts: list[str] = Field(
        ["127.0.0.1", "localhost"], description="Host names that are answered, beside that of the public address."
    )
    pool_size: int = Field(10, ge=1, le=200, description="Database connections, and request threads, per process.")
    pool_timeout_seconds: float = Field(3.0, gt=0, description="How long a request waits for a connection before 503.")
    session_idle_minutes: int = Field(720, ge=1, description="A session ends after this long without a request.")
    session_absolute_hours: int = Field(168, ge=1, description="A session ends after this long, used or not.")
    max_body_bytes: int = Field(262_144, ge=1024, description="Largest body of an ordinary request.")
    max_import_bytes: int = Field(1_073_741_824, ge=1024, description="Largest file that may be imported.")
    metrics_token: str = Field("", description="Bearer token for /metrics; empty allows loopback clients only.")
    sampler_url: str = Field(
        "",
        description="Address of the sampler that speaks for this installation's policies in chats, up to and including `/v1`.",
    )
    sampler_key: str = Field("", description="Bearer token that the sampler asks for; empty asks for none.")
    endpoint_origins: list[str] = Field(
        [],
        description="Origins, such as `https://models.example.org`, at which operators may register models for chat.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")
    trainer_command: str = Field(
        "", description="Command that starts a trainer, such as `accelerate launch`; empty means this Python."
    )
    trainer_threads: int = Field(
        0, ge=0, description="CPU threads of a trainer; 0 leaves it to torch. Bit-exact resume needs 1."
    )
    run_lease_seconds: int = Field(60, ge=2, description="A run whose trainer is silent this long is taken back.")
    clock_seconds: float = Field(15.0, gt=0, description="How often the clock looks for lost, queued and due runs.")
    max_run_attempts: int = Field(
        5, ge=1, description="How often a run is started without reaching its next checkpoint before it is given up."
    )

    @field_validator("database_url")
    @classmethod
    def name_the_driver(cls, address: str) -> str:
        """Addresses are often given as other tools want them: `postgres://` or `postgresql://`."""
        scheme, mark, rest = address.partition("://")
        if not address:
            return ""
        try:
            make_url(address)
        except (ArgumentError, ValueError):  # The library's own words would show the password.
            mark = ""
        if not mark or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
            raise ValueError("expected the address of a Postgres server, postgresql+psycopg://user@host:5432/name")
        return f"postgresql+psycopg://{rest}"

    @field_validator("redis_url")
    @classmethod
    def know_the_broker(cls, address: str) -> str:
        """Celery would tell of an unknown kind only when the first message is sent."""
        if address and not address.startswith(("redis://", "rediss://", "redis+socket://", "memory://")):
            raise ValueError("expected the address of Redis or Valkey, such as redis://host:6379/0")
        return address

    @model_validator(mode="after")
    def refuse_unsafe_production(self) -> Self:
        """In production, plain HTTP and an embedded database are mistakes, not defaults."""
        if self.environment != "production":
            return self
        if not self.public_url.startswith("https://"):
            raise ValueError("ATTUNE_PUBLIC_URL must begin with https:// in production: sessions travel in cookies.")
        if not self.database_url or not self.redis_url:
            raise ValueError("DATABASE_URL and REDIS_URL must be set in production.")
        if self.metrics_token and len(self.metrics_token) < 24:
            raise ValueError("ATTUNE_METRICS_TOKEN must have at least 24 characters.")
        return self

    @property
    def secure_cookies(self) -> bool:
        """Whether people reach us over HTTPS, so that cookies may demand it."""
        return self.public_url.startswith("https://")

    @property
    def artifact_dir(self) -> Path:
        """Root of model versions, snapshots and checkpoints; addressed by id, never by a client's path."""
        return self.data_dir / "artifacts"

    @property
    def upload_dir(self) -> Path:
        """Where files wait to be imported, under generated names."""
        return self.data_dir / "uploads"


class BadEnvironment(AppError):
    """A variable of the environment has a value that cannot be used."""


@lru_cache
def get_settings() -> Settings:
    """The settings of this process.

    Raises:
        BadEnvironment: naming the variable and what was expected, never its value, which may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        sentence = _complaint(error)
    except SettingsError as error:  # A list that is not JSON.
        name = re.search(r'field "(\w+)"', str(error))
        sentence = f'{_variable(name[1] if name else "?")} should be JSON, such as ["a.example.org"].'
    raise BadEnvironment(f"{sentence} Mend the environment; docs/settings.md describes each variable.")


def _complaint(error: ValidationError) -> str:
    """The first thing that is wrong, in a sentence."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    said = first["msg"].removeprefix("Value error, ").split(", unable")[0].rstrip(".")
    if not first["loc"]:  # Of several settings together; our own sentence names them.
        return f"{said}."
    return f"{_variable(str(first['loc'][0]))}: {said.replace('Input should be', 'it should be')}."


def _variable(name: str) -> str:
    """What a setting is called in the environment; those with an alias go by that."""
    return name if name.isupper() else f"ATTUNE_{name.upper()}"
