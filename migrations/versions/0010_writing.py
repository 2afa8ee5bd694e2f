"""Prompts that raters write to, and the demonstrations that come of it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

APPEND_ONLY = ("demonstration",)


def upgrade() -> None:
    op.create_table(
        "writing_task",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("prompt_id", sa.BigInteger(), nullable=False),
        sa.Column("writer_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("guideline_id", sa.BigInteger(), nullable=True),
        sa.Column("draft", sa.String(), nullable=False),
        sa.Column("skip_reason", sa.String(), nullable=True),
        sa.Column("skip_note", sa.String(), nullable=True),
        sa.Column("idempotency_key", sa.Uuid(), nullable=False),
        sa.Column("leased_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('leased', 'written', 'skipped', 'expired')", name=op.f("ck_writing_task_state_is_known")
        ),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_writing_task_guideline_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_writing_task_project_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_writing_task_prompt_id")),
        sa.ForeignKeyConstraint(["writer_id"], ["person.id"], name=op.f("fk_writing_task_writer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_writing_task")),
        sa.UniqueConstraint("prompt_id", "writer_id", name=op.f("uq_writing_task_prompt_id_writer_id")),
    )
    op.create_index(
        "uq_writing_task_in_hand",
        "writing_task",
        ["project_id", "writer_id"],
        unique=True,
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_table(
        "demonstration",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("response_id", sa.BigInteger(), nullable=False),
        sa.Column("writer_id", sa.BigInteger(), nullable=False),
        sa.Column("guideline_id", sa.BigInteger(), nullable=True),
        sa.Column("idempotency_key", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("supersedes_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_demonstration_guideline_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_demonstration_project_id")),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], name=op.f("fk_demonstration_response_id")),
        sa.ForeignKeyConstraint(["supersedes_id"], ["demonstration.id"], name=op.f("fk_demonstration_supersedes_id")),
        sa.ForeignKeyConstraint(["task_id"], ["writing_task.id"], name=op.f("fk_demonstration_task_id")),
        sa.ForeignKeyConstraint(["writer_id"], ["person.id"], name=op.f("fk_demonstration_writer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_demonstration")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_demonstration_idempotency_key")),
        sa.UniqueConstraint("supersedes_id", name=op.f("uq_demonstration_supersedes_id")),
        sa.UniqueConstraint("task_id", "revision", name=op.f("uq_demonstration_task_id_revision")),
    )
    op.create_index("ix_demonstration_project_id_writer_id", "demonstration", ["project_id", "writer_id"], unique=False)
    op.create_index("ix_demonstration_response_id", "demonstration", ["response_id"], unique=False)
    op.add_column(
        "project", sa.Column("demonstrations_per_prompt", sa.BigInteger(), server_default="0", nullable=False)
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.drop_column("project", "demonstrations_per_prompt")
    op.drop_index("ix_demonstration_response_id", table_name="demonstration")
    op.drop_index("ix_demonstration_project_id_writer_id", table_name="demonstration")
    op.drop_table("demonstration")
    op.drop_index("uq_writing_task_in_hand", table_name="writing_task", postgresql_where=sa.text("state = 'leased'"))
    op.drop_table("writing_task")
