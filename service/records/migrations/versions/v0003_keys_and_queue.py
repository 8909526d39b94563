"""Owners, keys, the audit log and idempotency keys; the order of what waits."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORK = ("adaptations", "meta_runs")


def upgrade() -> None:
    """Apply."""
    for table in WORK:
        op.add_column(table, sa.Column("num_failures", sa.Integer(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("arrival", sa.BigInteger(), nullable=False, server_default="0"))
        # What waited before goes on waiting in its order.
        rows = sa.table(table, sa.column("id"), sa.column("created_at"), sa.column("arrival"))
        other = rows.alias("other")
        place = sa.func.row_number().over(order_by=(other.c.created_at, other.c.id))
        ranked = sa.select(other.c.id, place.label("place")).subquery("ranked")
        op.execute(rows.update().values(arrival=ranked.c.place).where(rows.c.id == ranked.c.id))
        op.create_index(f"ix_{table}_state_priority_arrival", table, ["state", "priority", "arrival"])
        op.create_index(f"ix_{table}_owner_state_created_at_id", table, ["owner", "state", "created_at", "id"])
    turns = op.create_table(
        "turns",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_turns"),
    )
    op.bulk_insert(turns, [{"name": "prior-ids", "number": 0}])
    for table in WORK:  # numbers go on after those that were given above
        arrivals = sa.select(sa.literal(table), sa.func.count()).select_from(sa.table(table))
        op.execute(turns.insert().from_select(["name", "number"], arrivals))
    op.create_table(
        "owners",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("max_bytes", sa.BigInteger()),
        sa.Column("max_unfinished", sa.Integer()),
        sa.Column("touched_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_owners"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.Column("last_used_at", sa.Float()),
        sa.Column("revoked_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["owner"], ["owners.id"], name="fk_api_keys_owner"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(16)),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("path", sa.String(512), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_owner_id", "audit", ["owner", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("work_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Undo."""
    for table in ("idempotency_keys", "audit", "api_keys", "owners", "turns"):
        op.drop_table(table)
    for table in WORK:
        op.drop_index(f"ix_{table}_owner_state_created_at_id", table)
        op.drop_index(f"ix_{table}_state_priority_arrival", table)
        op.drop_column(table, "arrival")
        op.drop_column(table, "priority")
        op.drop_column(table, "num_failures")
