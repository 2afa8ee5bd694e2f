"""The benchmark of what a rater sees, in small: nearly all that is sent is followed at once by what lay ready."""

import argparse
from pathlib import Path

import pytest

from app.embedded.postgres import start_postgres
from benchmarks import painted
from tests.browser.conftest import find_chromium

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_the_next_comparison_is_painted_without_waiting_for_the_server(tmp_path: Path) -> None:
    find_chromium()
    server = start_postgres(tmp_path)
    options = argparse.Namespace(submissions=40, raters=20, reading=2.0, comparisons=2000)
    try:
        result = painted.with_raters(server, think=2.0, options=options)
    finally:
        server.stop()
    assert result.submissions == 40
    assert result.prefetched >= 38
    assert result.server_share <= 0.5
