"""A tiny policy that has learned to write a few short phrases, and a reward model on its trunk; no downloads."""

from pathlib import Path

import torch

from worker.rlhf.modeling import load_policy, new_reward_model, save_policy, save_reward_model
from worker.rlhf.tiny import build_tiny_base
from worker.rlhf.tokens import collate, encode_prompt, encode_response, load_tokenizer
from worker.rlhf.types import Prompt

PHRASES = (
    "Hello there. The pool is open until nine.",
    "Hello there. Breakfast is at ten.",
    "No idea.",
    "The pool is on the top floor.",
    "Good luck with that.",
)
QUESTIONS = (
    "Where is the pool?",
    "When is breakfast?",
    "Hi",
    "Can I please have a late check out, and when is breakfast?",
    "Is the pool open until nine?",
    "Hello there",
)


def ask(text: str) -> Prompt:
    """A prompt of one turn."""
    return [{"role": "user", "content": text}]


PROMPTS = [ask(text) for text in QUESTIONS]


def make_policy(folder: Path, *, steps: int = 60) -> Path:
    """Save a policy that has been taught the phrases by `steps` next-token steps."""
    build_tiny_base([*PHRASES, *QUESTIONS], folder, vocab_size=320, hidden=32, layers=2, heads=2)
    tokenizer = load_tokenizer(folder)
    policy = load_policy(folder)
    pairs = [
        (encode_prompt(tokenizer, prompt), encode_response(tokenizer, phrase))
        for prompt in PROMPTS
        for phrase in PHRASES
    ]
    batch = collate(pairs, pad=tokenizer.pad_token_id)
    labels = batch.ids.masked_fill(~batch.response_mask, -100)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = policy(input_ids=batch.ids, attention_mask=batch.attention_mask.long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_policy(policy, tokenizer, folder)
    return folder


def make_reward_model(policy_folder: Path, folder: Path) -> Path:
    """Save an untrained reward model on the policy's trunk."""
    tokenizer = load_tokenizer(policy_folder)
    save_reward_model(new_reward_model(policy_folder, tokenizer=tokenizer, seed=0), tokenizer, folder)
    return folder
