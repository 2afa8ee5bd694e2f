"""Chats with their turns, replies, reports and endpoints, and a project's settings for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chat",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("is_red_team", sa.Boolean(), nullable=False),
        sa.Column("start_key", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'ended')", name=op.f("ck_chat_state_is_known")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_chat_project_id")),
        sa.ForeignKeyConstraint(["rater_id"], ["person.id"], name=op.f("fk_chat_rater_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat")),
        sa.UniqueConstraint("start_key", name=op.f("uq_chat_start_key")),
    )
    op.create_index(op.f("ix_chat_project_id"), "chat", ["project_id"], unique=False)
    op.create_index("ix_chat_rater_id_project_id", "chat", ["rater_id", "project_id", "id"], unique=False)
    op.create_table(
        "chat_endpoint",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("base_url", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_by_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "temperature >= 0 AND temperature <= 5", name=op.f("ck_chat_endpoint_temperature_between_0_and_5")
        ),
        sa.CheckConstraint("weight BETWEEN 0 AND 100", name=op.f("ck_chat_endpoint_weight_between_0_and_100")),
        sa.ForeignKeyConstraint(["created_by_id"], ["person.id"], name=op.f("fk_chat_endpoint_created_by_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_chat_endpoint_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_endpoint")),
    )
    op.create_index(
        "uq_chat_endpoint_name",
        "chat_endpoint",
        ["project_id", "name"],
        unique=True,
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        "chat_turn",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("chat_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("say_key", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("draft", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("chosen_place", sa.BigInteger(), nullable=True),
        sa.Column("assignment_id", sa.BigInteger(), nullable=True),
        sa.Column("guideline_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'chosen')", name=op.f("ck_chat_turn_state_is_known")),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignment.id"], name=op.f("fk_chat_turn_assignment_id")),
        sa.ForeignKeyConstraint(["chat_id"], ["chat.id"], name=op.f("fk_chat_turn_chat_id")),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_chat_turn_guideline_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_turn")),
        sa.UniqueConstraint("chat_id", "number", name=op.f("uq_chat_turn_chat_id_number")),
        sa.UniqueConstraint("say_key", name=op.f("uq_chat_turn_say_key")),
    )
    op.create_table(
        "chat_probe",
        sa.Column("turn_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("broke", sa.Boolean(), nullable=False),
        sa.Column("severity", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("severity BETWEEN 0 AND 4", name=op.f("ck_chat_probe_severity_between_0_and_4")),
        sa.ForeignKeyConstraint(["turn_id"], ["chat_turn.id"], name=op.f("fk_chat_probe_turn_id")),
        sa.PrimaryKeyConstraint("turn_id", name=op.f("pk_chat_probe")),
    )
    op.create_table(
        "chat_reply",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("turn_id", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=True),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("sampling", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("finish_reason", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("response_id", sa.BigInteger(), nullable=True),
        sa.Column("beat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'writing', 'done', 'failed')", name=op.f("ck_chat_reply_state_is_known")
        ),
        sa.CheckConstraint(
            "(model_version_id IS NULL) <> (endpoint_id IS NULL)", name=op.f("ck_chat_reply_one_source")
        ),
        sa.ForeignKeyConstraint(["endpoint_id"], ["chat_endpoint.id"], name=op.f("fk_chat_reply_endpoint_id")),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_version.id"], name=op.f("fk_chat_reply_model_version_id")
        ),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], name=op.f("fk_chat_reply_response_id")),
        sa.ForeignKeyConstraint(["turn_id"], ["chat_turn.id"], name=op.f("fk_chat_reply_turn_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_reply")),
        sa.UniqueConstraint("turn_id", "round", "place", name=op.f("uq_chat_reply_turn_id_round_place")),
    )
    op.add_column("project", sa.Column("allow_chat", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("project", sa.Column("chat_replies", sa.BigInteger(), server_default="2", nullable=False))
    op.add_column("project", sa.Column("chat_min_turns", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("project", sa.Column("red_team", sa.Boolean(), server_default="false", nullable=False))
    op.add_column(
        "project", sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_project_chat_replies_between_2_and_4"), "project", "chat_replies BETWEEN 2 AND 4"
    )
    op.create_check_constraint(
        op.f("ck_project_chat_min_turns_between_0_and_50"), "project", "chat_min_turns BETWEEN 0 AND 50"
    )


def downgrade() -> None:
    op.drop_column("project", "rules")
    op.drop_column("project", "red_team")
    op.drop_column("project", "chat_min_turns")
    op.drop_column("project", "chat_replies")
    op.drop_column("project", "allow_chat")
    op.drop_table("chat_reply")
    op.drop_table("chat_probe")
    op.drop_table("chat_turn")
    op.drop_index("uq_chat_endpoint_name", table_name="chat_endpoint", postgresql_where=sa.text("removed_at IS NULL"))
    op.drop_table("chat_endpoint")
    op.drop_index("ix_chat_rater_id_project_id", table_name="chat")
    op.drop_index(op.f("ix_chat_project_id"), table_name="chat")
    op.drop_table("chat")
