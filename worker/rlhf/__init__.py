"""Reward modelling from rankings and PPO for language models, to be read from top to bottom.

Knows nothing of the website, of Celery or of a database. Read `types`, `tokens`, `masked`, `modeling`,
`reward_model`, `rollout`, `ppo`, in this order; README.md explains the method, its details and its metrics.
"""
