"""Every setting has a name for people."""

import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

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


def test_a_choice_is_offered_kept_and_checked(sign_in: Make, make_person: Make, make_project: Make, join: Make) -> None:
    project = make_project()
    admin, page = sign_in(join(make_person(), project, "admin")), f"/projects/{project.slug}/settings"
    select = re.search(r'<select[^>]*name="training.reward.ties".*?</select>', admin.get(page).text, re.DOTALL)
    assert select
    assert re.findall(r"<option (selected)?>([a-z-]+)", select[0]) == [
        ("selected", "ignore"),
        ("", "davidson"),
        ("", "rao-kupper"),
    ]
    assert (
        admin.post(page, data={"training.reward.ties": "davidson", "training.ppo.critic": "shared"}).status_code == 303
    )
    assert re.search(r"<option selected>davidson", admin.get(page).text)
    refused = admin.post(page, data={"training.reward.ties": "coin"})
    assert refused.status_code == 422
    assert "training.reward.ties" in refused.text
    assert re.search(r"<option selected>davidson", admin.get(page).text)


def test_a_price_on_doubt_asks_for_several_heads(
    sign_in: Make, make_person: Make, make_project: Make, join: Make
) -> None:
    project = make_project()
    admin, page = sign_in(join(make_person(), project, "admin")), f"/projects/{project.slug}/settings"
    priced = {"training.ppo.uncertainty_penalty": "0.5", "training.reward.num_heads": "1"}
    refused = admin.post(page, data=priced)
    assert refused.status_code == 422
    assert "needs reward.num_heads above 1" in refused.text
    assert admin.post(page, data=priced | {"training.reward.num_heads": "4"}).status_code == 303


@pytest.mark.parametrize("group", ["reward", "ppo"])
def test_each_training_setting_is_one_of_the_learning_library(group: str) -> None:
    """Choices too: whatever the page offers, the library takes."""
    from worker.rlhf.reward_model import RewardSettings
    from worker.rlhf.settings import PPOSettings

    kind: Any = {"reward": RewardSettings, "ppo": PPOSettings}[group]
    shape: Any = Training.model_fields[group].annotation
    for name, field in shape.model_fields.items():
        if name == "retrain":
            continue  # Which reward model a run starts from is the pipeline's affair (`worker/lessons.py`).
        for value in get_args(field.annotation) or [field.default]:
            assert getattr(kind(**{name: value}), name) == value
