"""The programs that train: Celery workers, the clock, the trainer; and the learning library they use."""
