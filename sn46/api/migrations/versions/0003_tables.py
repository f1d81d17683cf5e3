"""The master tables that draws were made from, and past draws by time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "zip_tables",
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("first_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_index("draws_by_start", "draws", ["start"])


def downgrade() -> None:
    op.drop_index("draws_by_start", "draws")
    op.drop_table("zip_tables")
