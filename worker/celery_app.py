"""The Celery application of the workers: two queues, ids only, no results."""

from celery import Celery
from celery.signals import setup_logging

from app.celery_settings import CELERY_SETTINGS
from app.config import BadEnvironment, get_settings

try:
    _broker = get_settings().redis_url
except BadEnvironment as refusal:  # A worker that cannot start says why in a sentence.
    raise SystemExit(f"attune: {refusal.message}") from None

celery_app = Celery("attune", broker=_broker, include=["worker.tasks"])
celery_app.conf.update(CELERY_SETTINGS)
app = celery_app


@setup_logging.connect
def _configure_logging(**_: object) -> None:
    """Plain lines with times; Celery's own configuration is replaced."""
    import logging

    logging.basicConfig(
        level=get_settings().log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
