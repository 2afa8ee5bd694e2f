"""Reports to a moderator, and questions about comparisons."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _key() -> sa.Column:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _now(name: str = "created_at") -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _to(table: str, name: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [f"{other}.id"], name=op.f(f"fk_{table}_{name}"))


def upgrade() -> None:
    op.create_table(
        "report",
        _key(),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("project_id", "comparison_id", "rater_id")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("reason", "words", "state", "note")),
        sa.Column("decided_by_id", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        _now(),
        sa.CheckConstraint("state IN ('open', 'kept', 'withdrawn')", name=op.f("ck_report_state_is_known")),
        _to("report", "project_id", "project"),
        _to("report", "comparison_id", "comparison"),
        _to("report", "rater_id", "person"),
        _to("report", "decided_by_id", "person"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
        sa.UniqueConstraint("comparison_id", "rater_id", name=op.f("uq_report_comparison_id_rater_id")),
    )
    op.create_index("ix_report_open", "report", ["project_id", "id"], postgresql_where=sa.text("state = 'open'"))
    op.create_index("ix_report_rater_id", "report", ["rater_id"])
    op.create_table(
        "thread",
        _key(),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("project_id", "comparison_id", "rater_id")),
        sa.Column("waits_for", sa.String(), nullable=False),
        _now(),
        sa.CheckConstraint("waits_for IN ('admin', 'rater', 'nobody')", name=op.f("ck_thread_turn_is_known")),
        _to("thread", "project_id", "project"),
        _to("thread", "comparison_id", "comparison"),
        _to("thread", "rater_id", "person"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thread")),
        sa.UniqueConstraint("comparison_id", "rater_id", name=op.f("uq_thread_comparison_id_rater_id")),
    )
    op.create_index("ix_thread_project_id_waits_for", "thread", ["project_id", "waits_for", "id"])
    op.create_index("ix_thread_rater_id", "thread", ["rater_id"])
    op.create_table(
        "thread_message",
        _key(),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("thread_id", "author_id")),
        sa.Column("is_answer", sa.Boolean(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        _now(),
        _to("thread_message", "thread_id", "thread"),
        _to("thread_message", "author_id", "person"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thread_message")),
    )
    op.create_index("ix_thread_message_thread_id", "thread_message", ["thread_id"])
    op.execute(
        "CREATE TRIGGER thread_message_append_only BEFORE UPDATE OR DELETE ON thread_message "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    for table in ("thread_message", "thread", "report"):
        op.drop_table(table)
