"""Datasets that arrive in parts; events, and webhooks that are told of them."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LEASES = ("checker", "housekeeper", "webhooks")


def upgrade() -> None:
    """Apply."""
    # SQLite cannot make a column nullable: the table is copied, which `Database.migrate` prepares.
    with op.batch_alter_table("datasets") as batch:
        batch.add_column(sa.Column("state", sa.String(16), nullable=False, server_default="READY"))
        batch.alter_column("sha256", existing_type=sa.String(64), nullable=True)
        batch.alter_column("report", existing_type=sa.JSON(), nullable=True)
        batch.add_column(sa.Column("findings", sa.JSON()))
        batch.add_column(sa.Column("changed_at", sa.Float()))
        batch.add_column(sa.Column("source", sa.String(1024)))
        batch.add_column(sa.Column("upload", sa.JSON()))
        batch.add_column(sa.Column("declared_sha256", sa.String(64)))
        batch.add_column(sa.Column("error", sa.JSON()))
        batch.add_column(sa.Column("alias_of", sa.String(64)))
    op.create_index("ix_datasets_owner_state_created_at_id", "datasets", ["owner", "state", "created_at", "id"])
    op.create_index("ix_datasets_state_changed_at", "datasets", ["state", "changed_at"])
    op.create_index("ix_datasets_sha256", "datasets", ["sha256"])
    op.create_table(
        "events",
        sa.Column("work_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("work_id", "sequence", name="pk_events"),
    )
    op.create_index("ix_events_created_at", "events", ["created_at"])
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("secret", sa.String(128), nullable=False),
        sa.Column("kinds", sa.JSON()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("disabled_at", sa.Float()),
        sa.Column("deleted_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_owner_created_at_id", "webhooks", ["owner", "created_at", "id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("webhook_id", sa.String(64), nullable=False),
        sa.Column("work_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("num_tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_at", sa.Float()),
        sa.Column("delivered_at", sa.Float()),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.String(500)),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id"),
    )
    op.create_index("ix_deliveries_next_at", "deliveries", ["next_at"])
    op.create_index("ix_deliveries_webhook_id_created_at_id", "deliveries", ["webhook_id", "created_at", "id"])
    # What can no longer be asked by anything.
    for table in ("adaptations", "meta_runs"):
        op.drop_index(f"ix_{table}_state_created_at_id", table)
    leases = sa.table("leases", sa.column("name"), sa.column("holder"), sa.column("expires_at"))
    op.bulk_insert(leases, [{"name": name, "holder": "", "expires_at": 0.0} for name in LEASES])
    identity = op.create_table(
        "identity", sa.Column("id", sa.String(32), nullable=False), sa.PrimaryKeyConstraint("id", name="pk_identity")
    )
    op.bulk_insert(identity, [{"id": secrets.token_hex(8)}])


def downgrade() -> None:
    """Undo. Datasets that are not READY go: the version before knows no other."""
    leases = sa.table("leases", sa.column("name"))
    op.execute(leases.delete().where(leases.c.name.in_(LEASES)))
    for table in ("adaptations", "meta_runs"):
        op.create_index(f"ix_{table}_state_created_at_id", table, ["state", "created_at", "id"])
    for table in ("identity", "deliveries", "webhooks", "events"):
        op.drop_table(table)
    for columns in ("sha256", "state_changed_at", "owner_state_created_at_id"):
        op.drop_index(f"ix_datasets_{columns}", "datasets")
    datasets = sa.table("datasets", sa.column("id"), sa.column("sha256"), sa.column("report"))
    used = sa.select(sa.table("adaptations", sa.column("dataset_id")).c.dataset_id)
    op.execute(datasets.delete().where(datasets.c.sha256.is_(None), datasets.c.id.not_in(used)))
    empty = {"sha256": datasets.c.id, "report": "{}"}
    op.execute(datasets.update().where(datasets.c.sha256.is_(None)).values(empty))
    with op.batch_alter_table("datasets") as batch:
        for column in ("alias_of", "error", "declared_sha256", "upload", "source", "changed_at", "findings", "state"):
            batch.drop_column(column)
        batch.alter_column("sha256", existing_type=sa.String(64), nullable=False)
        batch.alter_column("report", existing_type=sa.JSON(), nullable=False)
