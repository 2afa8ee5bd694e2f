"""Who replies: the draw of sources and sides, by lot for each turn, and kept for lineage."""

import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.chat.endpoints import list_endpoints
from app.projects.models import Project
from app.projects.settings import sampling_of
from app.training.models import ModelVersion
from app.training.service import list_versions

NUM_EARLIER = 2
OTHER_TEMPERATURES = (0.7, 1.4)  # Times the project's own.
SERVING_WEIGHT = 3
_lot = random.SystemRandom()


@dataclass(frozen=True)
class Source:
    """One way to get a reply; `weight` is its share of the lots."""

    name: str
    sampling: dict[str, Any]
    weight: int = 1
    model_version_id: int | None = None
    endpoint_id: int | None = None


def sources_of(session: Session, project: Project) -> list[Source]:
    """All from which this project may draw: its policies, the serving one at other temperatures, its endpoints."""
    sampling = sampling_of(project.sampling)
    settings = sampling.model_dump(exclude={"num_prompts"})
    found: list[Source] = []
    for version in _policies(session, project):
        is_serving = version.state == "serving"
        name = f"policy {version.number}"
        found.append(Source(name, settings, SERVING_WEIGHT if is_serving else 1, model_version_id=version.id))
        if is_serving:
            warmths = [min(round(sampling.temperature * factor, 3), 5.0) for factor in OTHER_TEMPERATURES]
            found += [Source(name, {**settings, "temperature": t}, model_version_id=version.id) for t in warmths]
    for endpoint in list_endpoints(session, project):
        if endpoint.is_enabled and endpoint.weight:
            values = {"temperature": endpoint.temperature, "max_new_tokens": sampling.max_new_tokens}
            found.append(Source(endpoint.name, values, endpoint.weight, endpoint_id=endpoint.id))
    return found


def draw(sources: list[Source], k: int, *, lot: random.Random = _lot) -> list[Source]:
    """`k` sources in the order of their places: different ones while there are enough, sides by lot."""
    left, drawn = list(sources), []
    for _ in range(k):
        left = left or list(sources)
        one = lot.choices(left, weights=[source.weight for source in left])[0]
        left.remove(one)
        drawn.append(one)
    lot.shuffle(drawn)
    return drawn


def _policies(session: Session, project: Project) -> list[ModelVersion]:
    """The serving policy, candidates, and the newest of those that served before."""
    policies = [version for version in list_versions(session, project) if version.kind == "policy"]
    now = [version for version in policies if version.state in {"serving", "candidate"}]
    return now + [version for version in policies if version.state in {"base", "retired"}][:NUM_EARLIER]
