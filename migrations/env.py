"""Alembic's entry: one connection, one transaction per migration, short lock waits."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.config import get_settings
from app.tables import Base

target_metadata = Base.metadata


def run() -> None:
    """Migrate the database of `sqlalchemy.url`, or else of the settings."""
    url = context.config.get_main_option("sqlalchemy.url") or get_settings().database_url
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.execute(text("SELECT pg_advisory_lock(20261124)"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=target_metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


run()
