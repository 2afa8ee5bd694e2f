"""Comparisons are handed out in the order of a sequence."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE comparison_queue_key")


def downgrade() -> None:
    op.execute("DROP SEQUENCE comparison_queue_key")
