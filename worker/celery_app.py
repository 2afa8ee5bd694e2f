"""The Celery application of the workers: two queues, ids only, no results."""

from celery import Celery
from celery.signals import setup_logging

from app.celery_settings import CELERY_SETTINGS
from app.config import get_settings

celery_app = Celery("attune", broker=get_settings().redis_url, include=["worker.tasks"])
celery_app.conf.update(CELERY_SETTINGS)
app = celery_app


@setup_logging.connect
def _configure_logging(**_: object) -> None:
    """Plain lines with times; Celery's own configuration is replaced."""
    import logging

    logging.basicConfig(
        level=get_settings().log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
