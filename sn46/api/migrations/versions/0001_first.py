"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "epochs",
        sa.Column("epoch_id", sa.String(20), primary_key=True),
        sa.Column("start", _TIME, nullable=False, unique=True),
        sa.Column("end", _TIME, nullable=False),
        sa.Column("seconds", sa.Integer, nullable=False),
        sa.Column("seed", sa.String(64), nullable=False),
        sa.Column("nonce", sa.String(64), nullable=False),
        sa.Column("assignment_hash", sa.String(64), nullable=False),
        sa.Column("table_version", sa.String(64), nullable=False),
        sa.Column("target_listings", sa.Integer, nullable=False),
        sa.Column("total_listings", sa.Integer, nullable=False),
        sa.Column("eligible", sa.Integer, nullable=False),
        sa.Column("relaxed", sa.JSON, nullable=False),
        sa.Column("draw_rules", sa.JSON, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("revealed_document", sa.LargeBinary),
        sa.Column("drawn_at", _TIME, nullable=False),
    )
    op.create_table(
        "draws",
        sa.Column("epoch_id", sa.String(20), primary_key=True),
        sa.Column("zipcode", sa.String(5), primary_key=True),
        sa.Column("start", _TIME, nullable=False),
        sa.Column("expected_listings", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("market_tier", sa.String(16), nullable=False),
    )
    op.create_index("draws_by_zipcode", "draws", ["zipcode", "start"])
    op.create_table(
        "statuses",
        sa.Column("epoch_id", sa.String(20), primary_key=True),
        sa.Column("hotkey", sa.String(64), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("listings_found", sa.Integer, nullable=False),
        sa.Column("zipcodes_completed", sa.Integer),
        sa.Column("s3_upload_complete", sa.Integer, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
    )
    op.create_table(
        "credentials",
        sa.Column("epoch_id", sa.String(20), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("hotkey", sa.String(64), primary_key=True),
        sa.Column("issued_at", _TIME, nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("epoch_id", sa.String(20), primary_key=True),
        sa.Column("validator_hotkey", sa.String(64), primary_key=True),
        sa.Column("start", _TIME, nullable=False),
        sa.Column("consensus_hash", sa.String(64), nullable=False),
        sa.Column("assignment_hash", sa.String(64), nullable=False),
        sa.Column("top_3", sa.JSON, nullable=False),
        sa.Column("participants", sa.Integer, nullable=False),
        sa.Column("reached_95", sa.Integer, nullable=False),
        sa.Column("announced_at", _TIME, nullable=False),
    )
    op.create_index("reports_by_start", "reports", ["start"])
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("hotkey", sa.String(64), nullable=False),
        sa.Column("way", sa.String(16), nullable=False),
        sa.Column("method", sa.String(8), nullable=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("code", sa.String(40)),
        sa.Column("address", sa.String(64), nullable=False),
    )
    op.create_index("ix_requests_at", "requests", ["at"])


def downgrade() -> None:
    for table in ("requests", "reports", "credentials", "statuses", "draws", "epochs"):
        op.drop_table(table)
