"""Who wrote a prompt, so that nobody ranks responses to what they wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("prompt", sa.Column("written_by_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key("fk_prompt_written_by_id", "prompt", "person", ["written_by_id"], ["id"])


def downgrade() -> None:
    op.drop_column("prompt", "written_by_id")
