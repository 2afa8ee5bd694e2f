"""A classifier reads the rater's raw pages and tries to say which policy wrote the left response. It must not be able to."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.db import transaction
from app.projects.models import Project
from app.prompts.models import ComparisonResponse, Response
from app.rating.models import Assignment

Make = Callable[..., Any]
NUM_PAGES = 1600  # An AUC then strays by 0.014 where there is nothing to find.


@pytest.fixture
def project(db: Engine, make_project: Make, make_comparisons: Make) -> Project:
    """Pairs that say the same, word for word; what differs is who wrote it, how, and when."""
    made: Project = make_project(ask_strength=True, auto_train=False)
    make_comparisons(made, NUM_PAGES)
    with transaction(db) as session:
        for position, source, temperature in ((0, "policy 1", 0.7), (1, "policy 2", 1.3)):
            ids = select(ComparisonResponse.response_id).where(ComparisonResponse.position == position)
            told = {"origin": "sampled", "source": source, "sampling": {"temperature": temperature}}
            session.execute(update(Response).where(Response.id.in_(ids)).values(text="The same.", **told))
    return made


def pages(browser: TestClient, path: str, count: int) -> dict[int, str]:
    """Each comparison as it came, headers and all, by assignment; each is skipped for the next."""
    seen: dict[int, str] = {}
    for _ in range(count):
        answer = browser.post(f"{path}/next", headers={"HX-Request": "true"})
        number = int(re.search(rf"{path}/(\d+)\"", answer.text)[1])  # type: ignore[index]
        seen[number] = repr(sorted(answer.headers.items())) + answer.text
        assert browser.post(f"{path}/{number}/skip", data={"reason": "other"}).status_code == 303
    return seen


def auc(documents: list[str], labels: list[bool]) -> float:
    """Of a linear classifier on all runs of three and four characters, judged on pages that it did not learn from."""
    reader = HashingVectorizer(analyzer="char", ngram_range=(3, 4), n_features=2**16)
    guesses = cross_val_predict(
        make_pipeline(reader, LogisticRegression(C=10, max_iter=300)), documents, labels, method="decision_function"
    )
    return float(roc_auc_score(labels, guesses))


@pytest.mark.slow
def test_nothing_on_the_pages_tells_the_policies_apart(
    db: Engine, project: Project, make_person: Make, join: Make, sign_in: Make
) -> None:
    rater = join(make_person(), project, "rater")
    seen = pages(sign_in(rater), f"/projects/{project.slug}/rate", NUM_PAGES)
    with transaction(db) as session:
        orders = {row.id: row.shown_order for row in session.scalars(select(Assignment))}
    is_first_left = [orders[number][0] == 0 for number in seen]
    assert 0.45 <= np.mean(is_first_left) <= 0.55
    assert abs(auc(list(seen.values()), is_first_left) - 0.5) <= 0.05
    some = list(zip(seen.values(), is_first_left, strict=True))[:400]
    leaking = [page + f"<i data-t={7 if left else 8}>" for page, left in some]
    assert auc(leaking, [left for _, left in some]) > 0.95  # It would have found a single digit.
