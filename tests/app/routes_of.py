"""All routes of an application with the permission that each carries."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Mount

from app.accounts.deps import Permission

OPEN = {"/healthz", "/readyz", "/metrics", "/static"}
"""Answered without knowing who asks, for machines and for the pages' own files."""


@dataclass(frozen=True)
class Listed:
    """One method of one path."""

    method: str
    path: str
    permissions: tuple[Permission, ...]

    @property
    def permission(self) -> Permission:
        """The one permission."""
        (only,) = self.permissions
        return only

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters in the path."""
        return re.findall(r"\{(\w+)\}", self.path)

    def url(self, slug: str = "absent") -> str:
        """An address with every parameter filled in; ids are of things that are not there."""
        path = self.path.replace("{slug}", slug)
        return re.sub(r"\{\w+(:\w+)?\}", "987654321", path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def routes_of(app: FastAPI) -> list[Listed]:
    """Every route but the open ones, one entry a method."""
    return [
        Listed(method, path, permissions)
        for path, methods, permissions in _described(app)
        if path not in OPEN
        for method in sorted(methods - {"HEAD"})
    ]


def queries_of(app: FastAPI, listed: Listed) -> list[str]:
    """Names of a route's query parameters."""
    return [
        parameter.alias
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute) and context.path == listed.path
        if listed.method in (context.methods or ())
        for parameter in context.original_route.dependant.query_params
    ]


def _described(app: FastAPI) -> Iterator[tuple[str, set[str], tuple[Permission, ...]]]:
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, Mount):
            continue
        route = context.original_route
        assert isinstance(route, APIRoute), f"{route} is neither a route nor the mount of static files"
        permissions = tuple(dict.fromkeys(_permissions(route.dependant)))
        yield str(context.path), set(context.methods or ()), permissions


def _permissions(dependant: Dependant) -> Iterator[Permission]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, Permission):
            yield inner.call
        yield from _permissions(inner)
