"""Celery settings shared by the sender in `queue` and the workers. Reasons are in docs/architecture.md."""

from typing import Any

VISIBILITY_TIMEOUT_SECONDS = 43_200

CELERY_SETTINGS: dict[str, Any] = {
    # The truth is in our tables: no result backend, ids only, JSON only.
    "task_ignore_result": True,
    "task_serializer": "json",
    "accept_content": ["json"],
    # Early acknowledgement: the row, the fence and the reaper do the rest.
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "global_keyprefix": "attune:",
    },
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "task_publish_retry": False,
    # Fork and CUDA do not mix; the trainer is a process of its own besides.
    "worker_pool_start_method": "spawn",
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_send_task_events": False,
    "worker_hijack_root_logger": False,
}
