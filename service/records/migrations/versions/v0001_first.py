"""Datasets, adaptations, leases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
        sa.UniqueConstraint("owner", "sha256", name="uq_datasets_owner_sha256"),
    )
    op.create_index("ix_datasets_owner_created_at_id", "datasets", ["owner", "created_at", "id"])
    op.create_table(
        "adaptations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("dataset_id", sa.String(64), nullable=False),
        sa.Column("dataset_sha256", sa.String(64), nullable=False),
        sa.Column("spent_s", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("finished_at", sa.Float()),
        sa.Column("cancel_requested_at", sa.Float()),
        sa.Column("error", sa.JSON()),
        sa.Column("result", sa.JSON()),
        sa.Column("artifacts", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name="pk_adaptations"),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_adaptations_dataset_id"),
    )
    op.create_index("ix_adaptations_owner_created_at_id", "adaptations", ["owner", "created_at", "id"])
    op.create_index("ix_adaptations_state_created_at_id", "adaptations", ["state", "created_at", "id"])
    leases = op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    # The row is there from the start, so that taking the lease is one update and never a race between inserts.
    op.bulk_insert(leases, [{"name": "reconciler", "holder": "", "expires_at": 0.0}])


def downgrade() -> None:
    """Undo."""
    op.drop_table("leases")
    op.drop_table("adaptations")
    op.drop_table("datasets")
