"""What other slices ask of training."""

from app.training.runs import cancel_run, get_run, request_run, retry_run
from app.training.triggers import count_new_rankings, request_if_due
from app.training.versions import get_version, list_versions, make_serving, serving_policy

__all__ = [
    "cancel_run",
    "count_new_rankings",
    "get_run",
    "get_version",
    "list_versions",
    "make_serving",
    "request_if_due",
    "request_run",
    "retry_run",
    "serving_policy",
]
