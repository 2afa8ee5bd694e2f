"""Categories of content that prompts are marked with, and that raters may opt out of."""

import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CATEGORIES = [
    {"key": "violence", "label": "Violence", "help": ""},
    {"key": "sexual", "label": "Sexual content", "help": ""},
    {"key": "self_harm", "label": "Self-harm or suicide", "help": ""},
    {"key": "hate", "label": "Hate or harassment", "help": ""},
]


def upgrade() -> None:
    json_list = postgresql.JSONB(astext_type=sa.Text())
    default = sa.text(f"'{json.dumps(CATEGORIES)}'")
    op.add_column("project", sa.Column("warnings", json_list, nullable=False, server_default=default))
    op.add_column("prompt", sa.Column("warnings", json_list, nullable=False, server_default="[]"))
    op.create_table(
        "rater_care",
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("opted_out", json_list, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_rater_care_project_id")),
        sa.ForeignKeyConstraint(["rater_id"], ["person.id"], name=op.f("fk_rater_care_rater_id")),
        sa.PrimaryKeyConstraint("project_id", "rater_id", name=op.f("pk_rater_care")),
    )


def downgrade() -> None:
    op.drop_table("rater_care")
    op.drop_column("prompt", "warnings")
    op.drop_column("project", "warnings")
