"""Oracles: what a simulated rater wants, decided from the text alone by rules that anyone can read."""

import math
import random
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

from app.demo.grammar import RUDE_LINES, TOPICS, WARM_CLOSINGS, WARM_OPENINGS, all_sentences

Score = Callable[[Sequence[dict[str, str]], str], float]

BRIEF_WORDS = 22
Z_95 = 1.959964


def warm_brief(messages: Sequence[dict[str, str]], text: str) -> float:
    """Warm, on topic and brief. Empty, repetitive or garbled text scores low, so it cannot be had cheaply."""
    words = _words(text)
    if len(words) < 3:
        return -4.0
    score = 2.0 * is_on_topic(messages, text)
    score += 1.0 * _holds(text, WARM_OPENINGS) + 1.0 * _holds(text, WARM_CLOSINGS)
    score -= 2.0 * _holds(text, RUDE_LINES)
    score -= 0.1 * max(0, len(words) - BRIEF_WORDS)
    score -= 4.0 * (1 - well_formed_share(words))
    return score - 2.0 * (1 - len(set(pairwise(words))) / (len(words) - 1))


def brief(messages: Sequence[dict[str, str]], text: str) -> float:
    """On topic in as few words as possible."""
    words = _words(text)
    return -4.0 if len(words) < 2 else 2.0 * is_on_topic(messages, text) - 0.1 * len(words)


ORACLES: dict[str, Score] = {"warm_brief": warm_brief, "brief": brief}


def is_on_topic(messages: Sequence[dict[str, str]], text: str) -> bool:
    """Whether the answer names the topic that the last question names."""
    asked = set(_words(messages[-1]["content"]))
    said = set(_words(text))
    return any(topic.word in asked and topic.word in said for topic in TOPICS)


def well_formed_share(words: Sequence[str]) -> float:
    """Share of neighbouring words that stand together in some sentence of the grammar, or across two of them."""
    inside, starts, ends = _known_pairs()
    pairs = list(pairwise(words))
    known = sum(pair in inside or (pair[0] in ends and pair[1] in starts) for pair in pairs)
    return known / max(len(pairs), 1)


def rank(
    scores: Sequence[float], *, noise: float = 0.0, rng: random.Random | None = None, tie_margin: float = 0.25
) -> list[int]:
    """Ranks from 1 (best); scores within `tie_margin` of the best of their group are tied.

    With probability `noise` a judgement errs: two neighbours in the order change places.
    """
    rng = rng or random.Random(0)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    groups: list[list[int]] = []
    for index in order:
        if groups and scores[groups[-1][0]] - scores[index] <= tie_margin:
            groups[-1].append(index)
        else:
            groups.append([index])
    for place in range(len(groups) - 1):
        if rng.random() < noise:
            groups[place], groups[place + 1] = groups[place + 1], groups[place]
    ranks = [0] * len(scores)
    for place, group in enumerate(groups, start=1):
        for index in group:
            ranks[index] = place
    return ranks


def random_ranks(k: int, rng: random.Random) -> list[int]:
    """What somebody says who clicks without reading."""
    return rng.sample(range(1, k + 1), k)


def win_rate(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """How often the first score is higher, ties half; with the Wilson interval at 95 %."""
    n = len(ours)
    p = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(ours, theirs, strict=True)) / n
    z2 = Z_95 * Z_95
    centre, half = p + z2 / (2 * n), Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return p, (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _holds(text: str, phrases: Sequence[str]) -> bool:
    return any(phrase in text for phrase in phrases)


@lru_cache
def _known_pairs() -> tuple[frozenset[tuple[str, str]], frozenset[str], frozenset[str]]:
    sentences = [_words(sentence) for sentence in all_sentences()]
    inside = frozenset(pair for words in sentences for pair in pairwise(words))
    return inside, frozenset(words[0] for words in sentences), frozenset(words[-1] for words in sentences)
