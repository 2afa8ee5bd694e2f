"""Rankings that came sooner than the texts can be read are marked."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ranking", sa.Column("is_too_fast", sa.Boolean(), nullable=False, server_default="false"))


def downgrade() -> None:
    op.drop_column("ranking", "is_too_fast")
