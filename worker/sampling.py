"""The serving policy answers prompts, and its answers become comparisons for raters."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.projects.settings import sampling_of
from app.prompts import service as prompts
from app.prompts.models import Comparison, Prompt
from app.training import runs, versions
from app.training.models import ModelVersion
from worker import registry
from worker.database import in_transaction
from worker.work import Work


def sample_comparisons(work: Work) -> None:
    """Let the serving policy answer the prompts that have been compared least, and open comparisons of the answers."""
    from worker.rlhf import optim, processes
    from worker.rlhf.modeling import load_policy
    from worker.rlhf.rollout import SamplingSettings, sample_responses
    from worker.rlhf.tokens import load_tokenizer

    if not processes.is_first():
        return  # One process opens comparisons; several would open them several times.
    sampling = sampling_of(work.project.sampling)
    policy, chosen = in_transaction(lambda session: _prompts_to_answer(session, work, sampling.num_prompts))
    folder = registry.version_dir(policy)
    tokenizer = load_tokenizer(folder)
    model = load_policy(folder, tokenizer=tokenizer).to(optim.device())
    settings = SamplingSettings(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_new_tokens=sampling.max_new_tokens,
        seed=work.run.id,
    )
    k, done, opened = work.project.responses_per_comparison, 0, 0
    asked = [messages for _, messages in chosen]
    for batch in sample_responses(model, tokenizer, asked, settings, num_responses=k, batch_size=16):
        opened += in_transaction(partial(_open, work=work, policy=policy, chosen=chosen, batch=batch))
        done += len(batch) // k
        work.recorder.step({"phase": "sample", "step": done, "total_steps": len(chosen), "comparisons": opened})
    work.recorder.say(f"Opened {opened} comparisons of responses by policy {policy.number}.")
    work.result |= {"comparisons": opened, "policy_version": policy.id}


def _prompts_to_answer(session: Session, work: Work, num_prompts: int) -> tuple[ModelVersion, list[tuple[int, Any]]]:
    policy = versions.serving_policy(session, work.project.id)
    if policy is None:
        raise ValueError("There is no serving policy to write responses. Run SFT first.")
    compared = func.count(Comparison.id)
    query = (
        select(Prompt.id, Prompt.messages)
        .outerjoin(Comparison, Comparison.prompt_id == Prompt.id)
        .where(Prompt.project_id == work.project.id)
        .group_by(Prompt.id)
        .order_by(compared, func.md5(func.concat(Prompt.id, "-", work.run.id)))
        .limit(num_prompts)
    )
    chosen = [(row.id, row.messages) for row in session.execute(query)]
    if not chosen:
        raise ValueError("This project has no prompts. Import some, then retry.")
    return policy, chosen


def _open(
    session: Session, work: Work, policy: ModelVersion, chosen: Sequence[tuple[int, Any]], batch: Sequence[Any]
) -> int:
    """Store one batch of samples and open comparisons of those with at least two different texts."""
    if runs.check_run(session, work.run.id, fence=work.run.fence) == "lost":
        raise registry.StaleRunError(f"run {work.run.id} has another fence")
    by_prompt: dict[int, list[int]] = {}
    seen: set[tuple[int, str]] = set()
    for sample in batch:
        prompt_id, text = (
            chosen[sample.prompt_index][0],
            sample.text.replace("\x00", "\ufffd"),
        )  # Postgres holds no NUL.
        if (prompt_id, text) in seen:
            continue
        seen.add((prompt_id, text))
        response_id, _ = prompts.add_response(
            session,
            prompt_id,
            text,
            origin="sampled",
            source=f"policy {policy.number}",
            model_version_id=policy.id,
            run_id=work.run.id,
            finish_reason=sample.finish_reason,
            sampling=work.project.sampling,
        )
        by_prompt.setdefault(prompt_id, []).append(response_id)
    opened = 0
    for prompt_id, response_ids in by_prompt.items():
        if len(response_ids) >= 2:
            _, is_new = prompts.add_comparison(
                session, work.project, prompt_id, response_ids, origin="sampled", run_id=work.run.id
            )
            opened += is_new
    return opened
