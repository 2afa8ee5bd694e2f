"""The loop as a picture: five stages on a ring, with a number each. The template draws it as SVG."""

import math
from dataclasses import dataclass

from app.overview.service import Loop
from app.texts import number

CENTRE_X, CENTRE_Y, RADIUS_X, RADIUS_Y = 360, 190, 250, 130


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
        ("collect", "Collect", f"{number(loop.num_new_rankings)} of {number(loop.threshold)} rankings"),
        ("reward", "Reward model", f"{accuracy:.0%} right" if accuracy is not None else "none yet"),
        ("ppo", "Optimise", _optimise(loop)),
        ("evaluate", "Approve", f"wins {win_rate:.0%}" if win_rate is not None else "nothing to decide"),
    ]
    return [
        Stage(key, title, figure, *_place(index, len(figures)), is_lit=key == loop.stage)
        for index, (key, title, figure) in enumerate(figures)
    ]


def _place(index: int, count: int) -> tuple[float, float]:
    angle = 2 * math.pi * index / count - math.pi / 2
    return round(CENTRE_X + RADIUS_X * math.cos(angle), 1), round(CENTRE_Y + RADIUS_Y * math.sin(angle), 1)


def _optimise(loop: Loop) -> str:
    policy = loop.candidate or loop.serving
    kl = policy.metrics.get("kl") if policy else None
    return f"KL {kl:.1f} per response" if kl is not None else "PPO, held by KL"
