"""`left_lead` gets the width that the model says."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column(
        "rater_queue", "left_lead", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False
    )


def downgrade() -> None:
    op.alter_column(
        "rater_queue", "left_lead", type_=sa.Integer(), existing_type=sa.BigInteger(), existing_nullable=False
    )
