"""Reasons for a ranking, and a mark from 1 to 7 for each response."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    json_type = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("project", sa.Column("reasons", json_type, nullable=False, server_default="[]"))
    for name in ("require_reason", "ask_likert"):
        op.add_column("project", sa.Column(name, sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("ranking", sa.Column("reasons", json_type, nullable=False, server_default="[]"))
    op.add_column("ranking", sa.Column("likert", json_type, nullable=False, server_default="{}"))


def downgrade() -> None:
    for table, name in (("ranking", "likert"), ("ranking", "reasons")):
        op.drop_column(table, name)
    for name in ("ask_likert", "require_reason", "reasons"):
        op.drop_column("project", name)
