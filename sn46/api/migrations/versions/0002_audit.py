"""Credentials, reports and requests say more of who asked, and can be looked up by it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ORIGIN = (("request_id", 64), ("address", 64), ("way", 16))
_REFUSED = sa.text("status >= 400")


def upgrade() -> None:
    for table in ("credentials", "reports"):
        for name, length in _ORIGIN:
            op.add_column(table, sa.Column(name, sa.String(length)))
    op.add_column("requests", sa.Column("epoch_id", sa.String(20)))
    op.add_column("requests", sa.Column("count", sa.Integer, nullable=False, server_default="1"))
    op.create_index("credentials_by_hotkey", "credentials", ["hotkey", "issued_at"])
    op.create_index("credentials_by_time", "credentials", ["issued_at"])
    op.create_index("credentials_by_request", "credentials", ["request_id"])
    op.create_index("reports_by_time", "reports", ["announced_at"])
    op.create_index("reports_by_request", "reports", ["request_id"])
    op.create_index("requests_by_hotkey", "requests", ["hotkey", "at"])
    op.create_index("requests_by_request", "requests", ["request_id"])
    op.create_index(
        "requests_refused", "requests", ["at"], sqlite_where=_REFUSED, postgresql_where=_REFUSED
    )


def downgrade() -> None:
    # The earlier version knows authenticated requests alone, a row each.
    op.execute("DELETE FROM requests WHERE hotkey = '' OR count > 1")
    for name in ("requests_refused", "requests_by_request", "requests_by_hotkey"):
        op.drop_index(name, "requests")
    for name in ("epoch_id", "count"):
        op.drop_column("requests", name)
    for name in ("reports_by_request", "reports_by_time"):
        op.drop_index(name, "reports")
    for name in ("credentials_by_request", "credentials_by_time", "credentials_by_hotkey"):
        op.drop_index(name, "credentials")
    for table in ("credentials", "reports"):
        for name, _ in _ORIGIN:
            op.drop_column(table, name)
