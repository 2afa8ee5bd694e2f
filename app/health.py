"""Liveness, readiness and metrics, for machines."""

import hmac
import shutil
from ipaddress import ip_address

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import metrics as measured
from app.errors import NotFound
from app.security import client_address
from app.web import SettingsDep

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
async def alive() -> str:
    """The process answers. Asks nothing of anything else."""
    return "ok"


@router.get("/readyz")
def ready(request: Request, settings: SettingsDep) -> Response:
    """Postgres answers, commits are durable and the disk has room. Redis is only a doorbell and is not asked."""
    try:
        with Session(request.app.state.engine) as session:
            durable = session.scalar(text("SHOW synchronous_commit")) != "off"
            session.scalar(text("SELECT version_num FROM alembic_version"))
    except SQLAlchemyError:
        return JSONResponse({"ready": False}, status_code=503, headers={"Retry-After": "5"})
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(settings.data_dir)
    is_ready = durable and disk.free > 0.02 * disk.total
    return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)


@router.get("/metrics")
def metrics(request: Request, settings: SettingsDep) -> Response:
    """Prometheus text; for loopback, or with the token of `ATTUNE_METRICS_TOKEN`."""
    if settings.metrics_token:
        sent = request.headers.get("Authorization", "")
        allowed = hmac.compare_digest(sent.encode(), f"Bearer {settings.metrics_token}".encode())
    else:
        allowed = _is_loopback(client_address(request))
    if not allowed:
        raise NotFound("There is no such page.")
    return Response(measured.exposition(request.app.state.engine), media_type=CONTENT_TYPE_LATEST)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
