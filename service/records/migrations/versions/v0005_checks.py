"""How often the check of a dataset was tried, and when it is tried again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("datasets", sa.Column("num_tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("datasets", sa.Column("num_waits", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("datasets", sa.Column("check_after", sa.Float()))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("datasets") as batch:
        for column in ("check_after", "num_waits", "num_tries"):
            batch.drop_column(column)
