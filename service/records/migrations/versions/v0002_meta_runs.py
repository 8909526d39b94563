"""Meta-runs, priors and their promotions; which datasets may be learned from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("datasets", sa.Column("meta_use", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("datasets", sa.Column("terms", sa.String(200), nullable=False, server_default="not stated"))
    op.create_table(
        "meta_runs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("datasets", sa.JSON(), nullable=False),
        sa.Column("prior_id", sa.String(128), nullable=False),
        sa.Column("spent_s", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("finished_at", sa.Float()),
        sa.Column("asked_at", sa.Float()),
        sa.Column("error", sa.JSON()),
        sa.Column("result", sa.JSON()),
        sa.Column("artifacts", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name="pk_meta_runs"),
    )
    op.create_index("ix_meta_runs_owner_created_at_id", "meta_runs", ["owner", "created_at", "id"])
    op.create_index("ix_meta_runs_state_created_at_id", "meta_runs", ["state", "created_at", "id"])
    op.create_table(
        "priors",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("search_space", sa.String(64), nullable=False),
        sa.Column("meta_run_id", sa.String(64)),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float()),
        sa.Column("deleted_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_priors"),
        sa.ForeignKeyConstraint(["meta_run_id"], ["meta_runs.id"], name="fk_priors_meta_run_id"),
    )
    op.create_index("ix_priors_owner_created_at_id", "priors", ["owner", "created_at", "id"])
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("search_space", sa.String(64), nullable=False),
        sa.Column("prior_id", sa.String(128), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
    )
    op.create_index("ix_promotions_search_space_id", "promotions", ["search_space", "id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("promotions")
    op.drop_table("priors")
    op.drop_table("meta_runs")
    op.drop_column("datasets", "terms")
    op.drop_column("datasets", "meta_use")
