"""Create the table of calls."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "usage_calls",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("inserted_us", sa.BigInteger, nullable=False),
        sa.Column("call_id", TEXT, nullable=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("end_user", TEXT, nullable=False),
        sa.Column("model_requested", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("protocol", TEXT, nullable=False),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("upstream", TEXT, nullable=False),
        sa.Column("upstream_request_id", TEXT, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("estimated_cost_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger, nullable=True),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("first_token_us", sa.BigInteger, nullable=True),
    )
    op.create_index("usage_calls_time", "usage_calls", ["time_us"])
    op.create_index("usage_calls_tenant_time", "usage_calls", ["tenant", "time_us"])


def downgrade() -> None:
    op.drop_table("usage_calls")
