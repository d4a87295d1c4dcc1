"""Create the table of daily sums."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "usage_days",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("day_us", sa.BigInteger, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("end_user", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("failed_calls", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("estimated_cost_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("estimated_calls", sa.BigInteger, nullable=False),
        sa.Column("unpriced_calls", sa.BigInteger, nullable=False),
    )
    op.create_index("usage_days_day", "usage_days", ["day_us"])
    op.create_index("usage_days_tenant_day", "usage_days", ["tenant", "day_us"])


def downgrade() -> None:
    op.drop_table("usage_days")
