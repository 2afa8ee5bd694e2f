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
    "chat": (
        "Chat",
        "Raters talk with the policies; two replies at a time, and the better one goes on.",
        {"responses_per_comparison": 2, "ask_strength": True, "allow_chat": True},
    ),
    "demonstrations": (
        "Demonstrations",
        "Raters write the responses that a first policy learns from; comparisons follow once it answers.",
        {"responses_per_comparison": 2, "ask_strength": True, "demonstrations_per_prompt": 1},
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
