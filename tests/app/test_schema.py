"""The tables that the migrations make are those of the models."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from app import migrations
from app.tables import Base


def test_the_migrations_make_what_the_models_say(db: Engine) -> None:
    with db.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, Base.metadata) == []


def test_each_migration_can_be_taken_back_and_made_again(db: Engine, database_url: str) -> None:
    db.dispose()
    migrations.downgrade(database_url, revision="base")
    migrations.upgrade(database_url)
    test_the_migrations_make_what_the_models_say(db)
