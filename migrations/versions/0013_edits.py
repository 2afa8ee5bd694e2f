"""The best response as a rater edited it: a response of its own, above all others in the ranking."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NAME = "ck_response_origin_is_known"


def upgrade() -> None:
    op.add_column("project", sa.Column("allow_edit", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("ranking", sa.Column("edited_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_ranking_edited_id"), "ranking", "response", ["edited_id"], ["id"])
    op.create_index("ix_ranking_edited_id", "ranking", ["edited_id"], postgresql_where=sa.text("edited_id IS NOT NULL"))
    op.drop_constraint(op.f(NAME), "response")
    op.create_check_constraint(op.f(NAME), "response", "origin IN ('imported', 'sampled', 'written', 'edited')")


def downgrade() -> None:
    op.drop_constraint(op.f(NAME), "response")
    op.create_check_constraint(op.f(NAME), "response", "origin IN ('imported', 'sampled', 'written')")
    op.drop_index("ix_ranking_edited_id", "ranking")
    op.drop_column("ranking", "edited_id")
    op.drop_column("project", "allow_edit")
