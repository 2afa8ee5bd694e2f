"""Imports every table, so that migrations and the worker see all of `Base.metadata`."""

from app.accounts import models as accounts
from app.audit import AuditEvent
from app.chat import models as chat
from app.db import Base
from app.exchange import models as exchange
from app.guidelines import models as guidelines
from app.oversight import models as oversight
from app.projects import models as projects
from app.prompts import models as prompts
from app.queue import Outbox
from app.rating import contact_models as contact
from app.rating import models as rating
from app.teaching import models as teaching
from app.training import models as training
from app.writing import models as writing

__all__ = [
    "AuditEvent",
    "Base",
    "Outbox",
    "accounts",
    "chat",
    "contact",
    "exchange",
    "guidelines",
    "oversight",
    "projects",
    "prompts",
    "rating",
    "teaching",
    "training",
    "writing",
]
