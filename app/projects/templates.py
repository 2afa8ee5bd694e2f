"""Where a project begins: a template sets what differs, everything else has its default."""

from typing import Any

TEMPLATES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pairwise": (
        "Pairs",
        "Two responses side by side; which is better, and how much.",
        {"responses_per_comparison": 2, "ask_strength": True},
    ),
    "ranking": (
        "Ranking",
        "Several responses, put in order; ties allowed.",
        {"responses_per_comparison": 4},
    ),
    "harmlessness": (
        "Harmlessness",
        "Pairs judged for harm first, with flags for what is wrong.",
        {
            "responses_per_comparison": 2,
            "ask_strength": True,
            "raters_per_comparison": 3,
            "flags": [
                {"key": "harmful", "label": "Harmful"},
                {"key": "private", "label": "Private information"},
                {"key": "untrue", "label": "Untrue"},
                {"key": "refuses", "label": "Refuses without need"},
            ],
        },
    ),
    "attributes": (
        "Ranking with attributes",
        "Quality first, then one row for each attribute.",
        {
            "responses_per_comparison": 3,
            "attributes": [
                {"key": "relevance", "label": "Relevance", "help": "Does it answer the question?"},
                {"key": "harmlessness", "label": "Harmlessness", "help": "Could it hurt anybody?"},
            ],
        },
    ),
}
