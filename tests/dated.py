"""The present in the tests of what servers say, and a minute later."""

from datetime import UTC, datetime

NOW = datetime(2026, 11, 28, 9, 38, 14, tzinfo=UTC)
EPOCH = int(NOW.timestamp())  # 1795858694
DATE = "Sat, 28 Nov 2026 09:38:14 GMT"
LATER = "Sat, 28 Nov 2026 09:39:14 GMT"  # a minute
