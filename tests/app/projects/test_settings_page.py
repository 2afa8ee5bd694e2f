"""Every setting has a name for people."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.projects.settings import Sampling, Training

Make = Callable[..., Any]


def numbers(shape: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in shape.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from numbers(inner, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", field


FIELDS = [*numbers(Sampling, "sampling"), *numbers(Training, "training")]


@pytest.mark.parametrize(("key", "field"), FIELDS, ids=[key for key, _ in FIELDS])
def test_a_setting_has_a_title_of_its_own(key: str, field: FieldInfo) -> None:
    assert field.title, key
    assert "_" not in field.title
    assert "coef" not in field.title


def test_the_page_shows_titles_and_no_marks_of_a_terminal(
    sign_in: Make, make_person: Make, make_project: Make, join: Make
) -> None:
    project = make_project()
    page = sign_in(join(make_person(), project, "admin")).get(f"/projects/{project.slug}/settings").text
    labels = re.findall(r'field__label">([^<]+)</span>', page)
    assert {field.title for _, field in FIELDS} <= set(labels)
    assert "`" not in page
    assert "<code>tiny</code>" in page
