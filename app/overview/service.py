"""The loop's numbers: how far to the next run, how well raters agree, what serves, and what happens next."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from app.guidelines.models import Guideline
from app.projects.models import Membership, Project
from app.prompts.models import Comparison, Prompt, Response
from app.rating.models import Ranking
from app.training.models import Kind, ModelVersion, Run, State
from app.training.service import count_new_rankings

RECENT_RANKINGS = 4000
ACTIVE = (State.QUEUED, State.RUNNING)


@dataclass(frozen=True)
class Agreement:
    """How often two raters of one comparison order two responses alike, with a 95 % Wilson interval."""

    share: float
    low: float
    high: float
    num_pairs: int


@dataclass(frozen=True)
class Loop:
    """What the overview draws."""

    num_new_rankings: int
    threshold: int
    num_rankings: int
    num_available: int
    num_prompts: int
    agreement: Agreement | None
    serving: ModelVersion | None
    candidate: ModelVersion | None
    reward_model: ModelVersion | None
    active: Sequence[Run]
    last_run: Run | None
    stage: str
    next_step: str

    @property
    def progress(self) -> float:
        """Share of the labels that the next run waits for."""
        return min(1.0, self.num_new_rankings / self.threshold)


def loop_of(session: Session, project: Project) -> Loop:
    """Everything the overview shows, in about ten statements."""
    active = session.scalars(select(Run).where(Run.project_id == project.id, Run.state.in_(ACTIVE))).all()
    serving = _newest_version(session, project, kind="policy", state="serving")
    candidate = _newest_version(session, project, kind="policy", state="candidate")
    num_new = count_new_rankings(session, project)
    num_available = _count(session, select(Comparison.id).where(
        Comparison.project_id == project.id, Comparison.state == "open",
        Comparison.counted + Comparison.leased < Comparison.wanted))  # fmt: skip
    stage, next_step = _next_step(
        project, active=active, serving=serving, candidate=candidate, num_new=num_new, num_available=num_available
    )
    return Loop(
        num_new_rankings=num_new,
        threshold=project.threshold,
        num_rankings=_count(session, select(Ranking.id).where(Ranking.project_id == project.id, Ranking.revision == 1)),
        num_available=num_available,
        num_prompts=_count(session, select(Prompt.id).where(Prompt.project_id == project.id)),
        agreement=agreement_of(session, project),
        serving=serving,
        candidate=candidate,
        reward_model=_newest_version(session, project, kind="reward_model", state="registered"),
        active=active,
        last_run=session.scalar(select(Run).where(Run.project_id == project.id).order_by(Run.id.desc()).limit(1)),
        stage=stage,
        next_step=next_step,
    )


def agreement_of(session: Session, project: Project) -> Agreement | None:
    """Agreement over the newest rankings, or None while no comparison has two raters."""
    newer = aliased(Ranking)
    current = (
        select(Ranking.comparison_id, Ranking.ranks)
        .where(Ranking.project_id == project.id, ~select(newer.id).where(newer.supersedes_id == Ranking.id).exists())
        .order_by(Ranking.id.desc())
        .limit(RECENT_RANKINGS)
    )
    by_comparison: dict[int, list[Mapping[str, int | None]]] = {}
    for comparison_id, ranks in session.execute(current):
        by_comparison.setdefault(comparison_id, []).append(ranks)
    agreed, compared = pairwise_agreement(by_comparison.values())
    if not compared:
        return None
    from scipy.stats import binomtest  # Heavy to import, and only this page needs it.

    interval = binomtest(agreed, compared).proportion_ci(method="wilson")
    return Agreement(agreed / compared, float(interval.low), float(interval.high), compared)


def pairwise_agreement(comparisons: Iterable[Sequence[Mapping[str, int | None]]]) -> tuple[int, int]:
    """(agreed, compared) over all pairs of raters and of responses that both raters ordered strictly."""
    agreed = compared = 0
    for rankings in comparisons:
        for ours, theirs in itertools.combinations(rankings, 2):
            for a, b in itertools.combinations(sorted(ours), 2):
                mine, other = _sign(ours, a, b), _sign(theirs, a, b)
                if mine and other:
                    compared += 1
                    agreed += mine == other
    return agreed, compared


def setup_steps(session: Session, project: Project) -> list[tuple[str, bool, str]]:
    """What a new project still needs: (sentence, done, page)."""
    base = f"/projects/{project.slug}"
    edition = select(Guideline.id).where(Guideline.project_id == project.id, Guideline.published_at.is_not(None))
    raters = select(Membership.id).where(Membership.project_id == project.id, Membership.role == "rater")
    demonstrations = (
        select(Response.id).join(Prompt).where(Prompt.project_id == project.id, Response.origin == "written")
    )
    serving = select(ModelVersion.id).where(ModelVersion.project_id == project.id, ModelVersion.state == "serving")
    comparisons = select(Comparison.id).where(Comparison.project_id == project.id)
    return [
        ("Publish guidelines, so that raters know what is asked.", _any(session, edition), f"{base}/guidelines"),
        ("Import prompts, with responses if you have some.", _any(session, comparisons), f"{base}/data"),
        ("Invite raters.", _any(session, raters), f"{base}/members"),
        (
            "Start a first policy: an SFT run on demonstrations, or the base model as it is.",
            _any(session, serving) or _any(session, demonstrations),
            f"{base}/runs",
        ),
    ]


def _next_step(
    project: Project,
    *,
    active: Sequence[Run],
    serving: ModelVersion | None,
    candidate: ModelVersion | None,
    num_new: int,
    num_available: int,
) -> tuple[str, str]:
    """The stage of the loop that is lit, and a sentence on what happens next and why not yet."""
    kinds = {run.kind: run for run in active}
    if Kind.LOOP in kinds:
        if kinds[Kind.LOOP].state == State.QUEUED:
            return "reward", "The next run is asked for and waits for a worker to take it."
        phase = kinds[Kind.LOOP].phase
        stage = "ppo" if phase.startswith("ppo") else "evaluate" if phase.startswith("eval") else "reward"
        return stage, "A run is learning from the rankings. It ends with a candidate for the overseer."
    if Kind.SAMPLE in kinds:
        if kinds[Kind.SAMPLE].state == State.QUEUED:
            return "generate", "The serving policy is to write responses; that waits for a worker."
        return "generate", "The serving policy writes responses for the next comparisons."
    if candidate is not None:
        return "evaluate", f"Policy {candidate.number} waits for an overseer who did not start its run."
    if Kind.SFT in kinds:
        if kinds[Kind.SFT].state == State.QUEUED:
            return "generate", "The first policy waits for a worker to train it. Raters can rank already."
        return "generate", "The first policy is being trained on demonstrations. Raters can rank already."
    if serving is None:
        return (
            "generate",
            "There is no policy yet: start an SFT run. It learns from demonstrations, or takes a base model as it is where there are none.",
        )
    if num_new < project.threshold:
        missing = project.threshold - num_new
        more = "" if num_available else " Raters have nothing left to rank: sample more responses or import some."
        return "collect", f"{missing} more rankings start the next run.{more}"
    if not project.auto_train:
        return "reward", "Enough rankings are in. Runs are not started by themselves in this project: start one."
    return "reward", "Enough rankings are in. The next run starts within seconds."


def _newest_version(session: Session, project: Project, *, kind: str, state: str) -> ModelVersion | None:
    query = select(ModelVersion).where(
        ModelVersion.project_id == project.id, ModelVersion.kind == kind, ModelVersion.state == state
    )
    return session.scalar(query.order_by(ModelVersion.number.desc()).limit(1))


def _sign(ranks: Mapping[str, int | None], a: str, b: str) -> int:
    first, second = ranks.get(a), ranks.get(b)
    if first is None or second is None or first == second:
        return 0
    return 1 if first < second else -1


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _any(session: Session, query: Select[int]) -> bool:
    return session.scalar(query.limit(1)) is not None
