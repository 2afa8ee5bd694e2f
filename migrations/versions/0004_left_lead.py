"""How far one side of a pair leads for a rater, so that sides stay balanced."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rater_queue", sa.Column("left_lead", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("rater_queue", "left_lead")
