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
    "app.teaching.routes",
    "app.rating.lesson_routes",
    "app.rating.routes",
    "app.rating.care_routes",
    "app.rating.contact_routes",
    "app.writing.routes",
    "app.chat.routes",
    "app.chat.endpoint_routes",
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
