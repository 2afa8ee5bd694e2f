"""Practice comparisons, the quiz, and admins' word on both."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

APPEND_ONLY = ("lesson_answer", "quiz_attempt", "teaching_ruling")


def upgrade() -> None:
    op.create_table(
        "quiz_attempt",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", sa.Uuid(), nullable=False),
        sa.Column("answers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("num_questions", sa.BigInteger(), nullable=False),
        sa.Column("num_right", sa.BigInteger(), nullable=False),
        sa.Column("pass_percent", sa.BigInteger(), nullable=False),
        sa.Column("is_passed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_quiz_attempt_project_id")),
        sa.ForeignKeyConstraint(["rater_id"], ["person.id"], name=op.f("fk_quiz_attempt_rater_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quiz_attempt")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_quiz_attempt_idempotency_key")),
    )
    op.create_index("ix_quiz_attempt_project_id_rater_id", "quiz_attempt", ["project_id", "rater_id"], unique=False)
    op.create_table(
        "quiz_question",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("correct", sa.BigInteger(), nullable=False),
        sa.Column("explanation", sa.String(), nullable=False),
        sa.Column("replaces_id", sa.BigInteger(), nullable=True),
        sa.Column("written_by_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('choice', 'pair')", name=op.f("ck_quiz_question_kind_is_known")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_quiz_question_project_id")),
        sa.ForeignKeyConstraint(["replaces_id"], ["quiz_question.id"], name=op.f("fk_quiz_question_replaces_id")),
        sa.ForeignKeyConstraint(["written_by_id"], ["person.id"], name=op.f("fk_quiz_question_written_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quiz_question")),
        sa.UniqueConstraint("replaces_id", name=op.f("uq_quiz_question_replaces_id")),
    )
    op.create_index(
        "uq_quiz_question_current",
        "quiz_question",
        ["project_id", "content_hash"],
        unique=True,
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.create_table(
        "teaching_ruling",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("ruled_by_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('pass', 'reset')", name=op.f("ck_teaching_ruling_kind_is_known")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_teaching_ruling_project_id")),
        sa.ForeignKeyConstraint(["rater_id"], ["person.id"], name=op.f("fk_teaching_ruling_rater_id")),
        sa.ForeignKeyConstraint(["ruled_by_id"], ["person.id"], name=op.f("fk_teaching_ruling_ruled_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teaching_ruling")),
    )
    op.create_index(
        "ix_teaching_ruling_project_id_rater_id", "teaching_ruling", ["project_id", "rater_id"], unique=False
    )
    op.create_table(
        "lesson",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("comparison_id", sa.BigInteger(), nullable=False),
        sa.Column("ranks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("explanation", sa.String(), nullable=False),
        sa.Column("guideline_id", sa.BigInteger(), nullable=True),
        sa.Column("replaces_id", sa.BigInteger(), nullable=True),
        sa.Column("written_by_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparison.id"], name=op.f("fk_lesson_comparison_id")),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_lesson_guideline_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_lesson_project_id")),
        sa.ForeignKeyConstraint(["replaces_id"], ["lesson.id"], name=op.f("fk_lesson_replaces_id")),
        sa.ForeignKeyConstraint(["written_by_id"], ["person.id"], name=op.f("fk_lesson_written_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lesson")),
        sa.UniqueConstraint("replaces_id", name=op.f("uq_lesson_replaces_id")),
    )
    op.create_index("ix_lesson_comparison_id", "lesson", ["comparison_id"], unique=False)
    op.create_index("ix_lesson_project_id", "lesson", ["project_id"], unique=False)
    op.create_index(
        "uq_lesson_current", "lesson", ["comparison_id"], unique=True, postgresql_where=sa.text("retired_at IS NULL")
    )
    op.create_table(
        "lesson_answer",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("lesson_id", sa.BigInteger(), nullable=False),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", sa.Uuid(), nullable=False),
        sa.Column("ranks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("shown_order", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("num_pairs", sa.BigInteger(), nullable=False),
        sa.Column("num_agreed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["lesson_id"], ["lesson.id"], name=op.f("fk_lesson_answer_lesson_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_lesson_answer_project_id")),
        sa.ForeignKeyConstraint(["rater_id"], ["person.id"], name=op.f("fk_lesson_answer_rater_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lesson_answer")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_lesson_answer_idempotency_key")),
    )
    op.create_index("ix_lesson_answer_lesson_id", "lesson_answer", ["lesson_id"], unique=False)
    op.create_index("ix_lesson_answer_project_id_rater_id", "lesson_answer", ["project_id", "rater_id"], unique=False)
    op.add_column("project", sa.Column("practice_comparisons", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("project", sa.Column("quiz_required", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("project", sa.Column("quiz_pass_percent", sa.BigInteger(), server_default="80", nullable=False))
    op.add_column("project", sa.Column("quiz_tries", sa.BigInteger(), server_default="3", nullable=False))
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.drop_column("project", "quiz_tries")
    op.drop_column("project", "quiz_pass_percent")
    op.drop_column("project", "quiz_required")
    op.drop_column("project", "practice_comparisons")
    op.drop_index("ix_lesson_answer_project_id_rater_id", table_name="lesson_answer")
    op.drop_index("ix_lesson_answer_lesson_id", table_name="lesson_answer")
    op.drop_table("lesson_answer")
    op.drop_index("uq_lesson_current", table_name="lesson", postgresql_where=sa.text("retired_at IS NULL"))
    op.drop_index("ix_lesson_project_id", table_name="lesson")
    op.drop_index("ix_lesson_comparison_id", table_name="lesson")
    op.drop_table("lesson")
    op.drop_index("ix_teaching_ruling_project_id_rater_id", table_name="teaching_ruling")
    op.drop_table("teaching_ruling")
    op.drop_index(
        "uq_quiz_question_current", table_name="quiz_question", postgresql_where=sa.text("retired_at IS NULL")
    )
    op.drop_table("quiz_question")
    op.drop_index("ix_quiz_attempt_project_id_rater_id", table_name="quiz_attempt")
    op.drop_table("quiz_attempt")
