"""The picture of the README: how many times faster ours is, and the score as PPO goes on. SVG without a library."""

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.learning.cases import PPO, Reward

WIDTH, ROW, LEFT, RIGHT = 760, 30, 270, 60
CURVE_HEIGHT = 260
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .small { font-size: 11px; fill: #59636e }
.title { font-size: 15px; font-weight: 600 } .ours { fill: #0969da; stroke: #0969da } .trl { fill: #bc4c00; stroke: #bc4c00 }
.shared { fill: #1a7f37; stroke: #1a7f37 } .bar { stroke: none } .line { fill: none; stroke-width: 2.5 }
.seed { fill: none; stroke-width: 1; opacity: .4 } .axis { stroke: #d1d9e0; fill: none } .one { stroke: #59636e }
.goal { stroke: #1f2328; stroke-width: 2.5 } .word { stroke: none }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .small { fill: #9198a1 }
.ours { fill: #4493f8; stroke: #4493f8 } .trl { fill: #f0883e; stroke: #f0883e } .shared { fill: #3fb950; stroke: #3fb950 }
.bar { stroke: none } .word { stroke: none } .line, .seed { fill: none } .axis { stroke: #3d444d } .one { stroke: #9198a1 }
.goal { stroke: #f0f6fc } }
"""


def picture(measured: Sequence[Any]) -> str:
    """All cases' ratios as bars with a tick at each goal, and below them PPO's scores."""
    bars = list(_bars(measured))
    policies = [both for both in measured if isinstance(both.case, PPO)]
    top = 60 + ROW * len(bars)
    height = top + (CURVE_HEIGHT + 70 if policies else 20)
    body = [*_bar_chart(bars), *(_curves(policies, top=top + 30) if policies else [])]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escape(_summary(bars))}</title><style>{STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _summary(bars: Sequence[tuple[str, float, float]]) -> str:
    return "Times TRL's work per second: " + "; ".join(f"{name} {ratio:.1f}" for name, ratio, _ in bars)


def _bars(measured: Sequence[Any]) -> Iterable[tuple[str, float, float]]:
    """(name, ratio, goal) of each bar."""
    for both in measured:
        if isinstance(both.case, Reward):
            yield both.case.title, both.ratio(lambda line: line["cpu_s"]), both.case.goal
        else:
            optimise = both.ratio(lambda line: line["phases"]["optimise_cpu_s"])
            yield f"{both.case.title}: optimise", optimise, both.case.goals.get("optimise", 0)
            whole = both.ratio(lambda line: line["cpu_s"])
            yield f"{both.case.title}: end to end", whole, both.case.goals.get("end to end", 0)


def _bar_chart(bars: Sequence[tuple[str, float, float]]) -> list[str]:
    most = max(max(ratio, goal, 1.0) for _, ratio, goal in bars)
    scale = (WIDTH - LEFT - RIGHT) / most
    bottom = 44 + ROW * len(bars)
    parts = ['<text class="title" x="12" y="24">Times TRL\'s work per second (tick: goal; thin line: TRL)</text>']
    for place, (name, ratio, goal) in enumerate(bars):
        y = 44 + ROW * place
        parts.append(f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="ours bar" x="{LEFT}" y="{y + 2}" width="{ratio * scale:.1f}" height="{ROW - 10}"/>')
        parts.append(f'<text x="{LEFT + max(ratio, goal) * scale + 6:.1f}" y="{y + 17}">{ratio:.1f}</text>')
        if goal:
            x = LEFT + goal * scale
            parts.append(f'<path class="goal" d="M{x:.1f} {y - 1}V{y + ROW - 5}"/>')
    one = LEFT + scale
    return [*parts, f'<path class="one" d="M{one:.1f} 40V{bottom}"/>']


def _curves(policies: Sequence[Any], *, top: int) -> list[str]:
    """Mean score of each update's samples: a thin line for each seed, a thick one for their mean."""
    groups = [("TRL 1.12", "trl", policies[0].trl)]
    groups += [
        (f"ours, {both.case.title.partition(', ')[2]}", style, both.ours)
        for both, style in zip(policies, ("ours", "shared"), strict=False)
    ]
    scores = {name: [[update["score"] for update in line["updates_log"]] for line in runs] for name, _, runs in groups}
    every = [value for rows in scores.values() for row in rows for value in row]
    low, high = min(every), max(every)
    num = max(len(row) for rows in scores.values() for row in rows)

    def path(row: Sequence[float], style: str) -> str:
        xs = [60 + (WIDTH - 240) * place / max(1, num - 1) for place in range(len(row))]
        ys = [top + 20 + CURVE_HEIGHT * (1 - (value - low) / max(high - low, 1e-9)) for value in row]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        return f'<polyline class="{style}" points="{points}"/>'

    parts = [f'<text class="title" x="12" y="{top}">Mean score of the samples, update by update</text>']
    for place, (name, style, _) in enumerate(groups):
        rows = scores[name]
        parts += [path(row, f"{style} seed") for row in rows]
        shortest = min(map(len, rows))
        parts.append(path([mean(row[step] for row in rows) for step in range(shortest)], f"{style} line"))
        parts.append(f'<text class="{style} word" x="{WIDTH - 165}" y="{top + 40 + 22 * place}">{escape(name)}</text>')
    bottom = top + 20 + CURVE_HEIGHT
    parts.append(f'<path class="axis" d="M60 {top + 20}V{bottom}H{WIDTH - 180}"/>')
    parts += [
        f'<text class="small" x="52" y="{top + 24}" text-anchor="end">{high:.1f}</text>',
        f'<text class="small" x="52" y="{bottom}" text-anchor="end">{low:.1f}</text>',
        f'<text class="small" x="60" y="{bottom + 16}">update 1</text>',
        f'<text class="small" x="{WIDTH - 180}" y="{bottom + 16}" text-anchor="end">update {num}</text>',
    ]
    return parts
