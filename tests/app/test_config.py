"""A wrong environment is one sentence that names the variable, and never shows its value."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import BadEnvironment, get_settings

SECRET = "postgresql+psycopg://attune:hunter2@db/attune"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ATTUNE_POOL_SIZE", "abc", "it should be a valid integer"),
        ("ATTUNE_POOL_SIZE", "0", "it should be greater than or equal to 1"),
        ("ATTUNE_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("ATTUNE_ALLOWED_HOSTS", "one.example,two.example", "JSON"),
        ("ATTUNE_ENVIRONMENT", "production", "ATTUNE_PUBLIC_URL must begin with https://"),
    ],
)
def test_a_wrong_value_is_a_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv("DATABASE_URL", SECRET)
    monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    with pytest.raises(BadEnvironment) as refusal:
        get_settings()
    get_settings.cache_clear()
    sentence = refusal.value.message
    assert expected in sentence
    assert name in sentence or name == "ATTUNE_ENVIRONMENT"
    assert "hunter2" not in sentence
    assert value not in sentence.replace("in production", "") or value == "0"


@pytest.mark.parametrize(
    "command",
    [["app.cli", "migrate"], ["worker.clock"], ["celery", "-A", "worker.celery_app", "report"]],
    ids=lambda command: command[0],
)
def test_a_process_that_cannot_start_says_why_without_a_traceback(tmp_path: Path, command: list[str]) -> None:
    environment = {**os.environ, "DATABASE_URL": SECRET, "ATTUNE_POOL_SIZE": "abc", "ATTUNE_DATA_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert ended.returncode == 1
    assert "attune: ATTUNE_POOL_SIZE: it should be a valid integer." in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "hunter2" not in ended.stderr + ended.stdout
