"""Limits of a rater's day, the break after a while, and an index for what a rater did since midnight."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = {"max_rankings_per_day": "0", "max_hours_per_day": "0", "break_minutes": "50"}


def upgrade() -> None:
    for name, default in COLUMNS.items():
        op.add_column("project", sa.Column(name, sa.BigInteger(), nullable=False, server_default=default))
    op.create_check_constraint(op.f("ck_project_hours_of_a_day"), "project", "max_hours_per_day BETWEEN 0 AND 24")
    day = ["rater_id", "project_id", "created_at"]
    op.create_index("ix_ranking_rater_day", "ranking", day, postgresql_include=["seconds"])


def downgrade() -> None:
    op.drop_index("ix_ranking_rater_day", "ranking")
    op.drop_constraint(op.f("ck_project_hours_of_a_day"), "project")
    for name in COLUMNS:
        op.drop_column("project", name)
