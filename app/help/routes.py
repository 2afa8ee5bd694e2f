"""`/help`: the manual for raters, admins, operators and overseers."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.accounts.deps import Anyone
from app.errors import NotFound
from app.web import render

router = APIRouter(prefix="/help", tags=["help"])
PAGES = {"raters": "For raters", "admins": "For admins", "operators": "For operators", "overseers": "For overseers"}


@router.get("", response_class=HTMLResponse)
def index(_caller: Anyone, request: Request) -> HTMLResponse:
    """What there is to read."""
    return render(request, "help/index.html", pages=PAGES)


@router.get("/{page}", response_class=HTMLResponse)
def show(_caller: Anyone, page: str, request: Request) -> HTMLResponse:
    """One page."""
    if page not in PAGES:
        raise NotFound("The manual has no such page.")
    return render(request, f"help/{page}.html", pages=PAGES, page=page)
