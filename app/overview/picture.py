"""The loop as a picture: five stages on a ring with a number each, and arrows between. The template draws it as SVG."""

import math
from dataclasses import dataclass

from app.overview.service import Loop
from app.texts import number, percent

CENTRE_X, CENTRE_Y, RADIUS_X, RADIUS_Y = 360, 170, 250, 130
NUM_STAGES = 5


@dataclass(frozen=True)
class Stage:
    """One station of the loop. `x, y` is its centre, in SVG units."""

    key: str
    title: str
    figure: str
    x: float
    y: float
    is_lit: bool


def stages(loop: Loop) -> list[Stage]:
    """Clockwise from the top: generate, collect, reward model, optimise, evaluate."""
    serving, reward = loop.serving, loop.reward_model
    accuracy = reward.metrics.get("accuracy") if reward else None
    gain = loop.candidate or loop.serving or reward
    win_rate = gain.metrics.get("win_rate") if gain else None
    figures = [
        ("generate", "Generate", f"policy {serving.number} serves" if serving else "no policy yet"),
        ("collect", "Collect", _collected(loop)),
        ("reward", "Reward model", f"{percent(accuracy)} right" if accuracy is not None else "none yet"),
        ("ppo", "Optimise", _optimise(loop)),
        ("evaluate", "Approve", f"wins {percent(win_rate)}" if win_rate is not None else "nothing to decide"),
    ]
    return [
        Stage(key, title, figure, *_place(index), is_lit=key == loop.stage)
        for index, (key, title, figure) in enumerate(figures)
    ]


def arrows() -> list[tuple[float, float, float]]:
    """One for each gap between stages: (x, y, degrees), pointing clockwise along the ring."""
    return [(*_place(index + 0.5), _heading(index + 0.5)) for index in range(NUM_STAGES)]


def _angle(index: float) -> float:
    """From the centre, in radians; 0 is to the right, and y grows downwards."""
    return 2 * math.pi * index / NUM_STAGES - math.pi / 2


def _place(index: float) -> tuple[float, float]:
    angle = _angle(index)
    return round(CENTRE_X + RADIUS_X * math.cos(angle), 1), round(CENTRE_Y + RADIUS_Y * math.sin(angle), 1)


def _heading(index: float) -> float:
    """The direction of the ring's tangent, in degrees."""
    angle = _angle(index)
    return round(math.degrees(math.atan2(RADIUS_Y * math.cos(angle), -RADIUS_X * math.sin(angle))), 1)


def _collected(loop: Loop) -> str:
    """How far to the threshold; past it, "101 of 80" would read wrong."""
    if loop.num_new_rankings > loop.threshold:
        return f"{number(loop.num_new_rankings)} rankings, {number(loop.threshold)} needed"
    return f"{number(loop.num_new_rankings)} of {number(loop.threshold)} rankings"


def _optimise(loop: Loop) -> str:
    policy = loop.candidate or loop.serving
    kl = policy.metrics.get("kl") if policy else None
    return f"KL {kl:.1f} per response" if kl is not None else "PPO, held by KL"
