"""The web application: static files, routes, middleware and error pages."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import Depends, FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from app import assets, error_pages, health, slices
from app.config import Settings, get_settings
from app.db import make_engine
from app.metrics import RequestTimes
from app.security import BodyLimit, SecurityHeaders, check_csrf

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application. `uvicorn --factory app.main:create_app` serves it."""
    settings = settings or get_settings()
    app = FastAPI(
        title="Attune",
        summary="Human feedback on language-model responses, and the loop closed with it.",
        version="0.1.0",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.settings = settings
    app.state.engine = make_engine(settings)
    app.mount("/static/screens", StaticFiles(directory=assets.SCREENS), name="screens")
    app.mount("/static", StaticFiles(directory=assets.STATIC), name="static")
    for router in slices.routers():
        app.include_router(router, dependencies=[Depends(check_csrf)])
    app.include_router(health.router)  # Only reads, and its callers are machines.
    error_pages.install(app)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_hosts(settings))
    app.add_middleware(SecurityHeaders, settings=settings)
    app.add_middleware(RequestTimes)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """As many request threads as database connections: more would only wait for each other."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = app.state.settings.pool_size
    yield
    app.state.engine.dispose()


def _hosts(settings: Settings) -> list[str]:
    """Host names without port, as the trusted-host check wants them."""
    public = settings.public_url.split("://", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0]
    return sorted({public, *settings.allowed_hosts})
