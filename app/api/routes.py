"""`/api/v1`: the JSON routes, one module per slice, and their OpenAPI description."""

import importlib
import importlib.util
from typing import Any

from fastapi import APIRouter, Request

from app.accounts.deps import SignedIn

MODULES = [
    "accounts",
    "projects",
    "guidelines",
    "exchange",
    "teaching",
    "rating",
    "care",
    "contact",
    "writing",
    "chat",
    "endpoints",
    "training",
    "oversight",
]

router = APIRouter(prefix="/api/v1")
for _name in MODULES:
    if importlib.util.find_spec(f"app.api.{_name}"):
        router.include_router(importlib.import_module(f"app.api.{_name}").router)


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request, _caller: SignedIn) -> dict[str, Any]:
    """The OpenAPI description, for those who are signed in."""
    schema: dict[str, Any] = request.app.openapi()
    return schema
