"""All routers, slice by slice: the one list of what the website answers."""

import importlib
import importlib.util

from fastapi import APIRouter

ROUTES = [
    "app.accounts.routes",
    "app.projects.routes",
    "app.guidelines.routes",
    "app.exchange.routes",
    "app.training.routes",
    "app.rating.routes",
    "app.oversight.routes",
    "app.overview.routes",
    "app.help.routes",
    "app.api.routes",
]


def routers() -> list[APIRouter]:
    """The `router` of each slice."""
    found = [
        name for name in ROUTES if importlib.util.find_spec(name.rsplit(".", 1)[0]) and importlib.util.find_spec(name)
    ]
    return [importlib.import_module(name).router for name in found]
