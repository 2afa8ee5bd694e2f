"""Many raters on one comparison: soft labels, the share of raters behind each preference, in place of one vote each."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from worker.rlhf.types import Ranking


def merge_raters(rankings: Sequence[Ranking]) -> list[Ranking]:
    """One ranking per comparison, whose `preferences` hold the weighted share of raters behind each pair.

    A tie counts half for either side; an unranked response says nothing. Comparisons are told apart by prompt and set
    of responses, whatever their order on the screen. The merged weight is the mean of the raters'.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Ranking]] = defaultdict(list)
    for ranking in rankings:
        if ranking.weight > 0:
            groups[repr(ranking.prompt), tuple(sorted(ranking.responses))].append(ranking)
    return [_merged(group) for group in groups.values()]


def _merged(group: Sequence[Ranking]) -> Ranking:
    first = group[0]
    if len(group) == 1 or len(set(first.responses)) < len(first.responses):
        return first
    votes: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for ranking in group:
        ranks = dict(zip(ranking.responses, ranking.ranks, strict=True))
        for a, b in combinations(range(len(first.responses)), 2):
            one, other = ranks[first.responses[a]], ranks[first.responses[b]]
            if one is not None and other is not None:
                votes[a, b][0] += ranking.weight * (1.0 if one < other else 0.5 if one == other else 0.0)
                votes[a, b][1] += ranking.weight
    preferences = tuple((a, b, won / total) for (a, b), (won, total) in votes.items())
    weight = sum(ranking.weight for ranking in group) / len(group)
    unranked = (None,) * len(first.responses)
    return Ranking(first.prompt, first.responses, unranked, weight, topic=first.topic, preferences=preferences)
