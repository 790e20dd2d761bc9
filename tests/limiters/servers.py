"""The servers with a real rate limiter, and how each is started."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import attrs

from trio_conman import RetryConfig

REQUESTS = 40
PER_WINDOW = 10
# Of refusals, of what is under way: one in each window but the last. One more request asks whether it is up.
WAVES = math.ceil((REQUESTS + 1) / PER_WINDOW) - 1

# In the folder that the apps are copied to, beside what pip and npm have installed.
PYTHON = "venv/bin/python"
TRAEFIK = (
    "venv/bin/traefik",
    "--entrypoints.web.address=127.0.0.1:PORT",
    "--providers.file.filename=traefik_routes.yaml",
    "--ping=true",
    "--ping.manualrouting=true",  # the ping is what the limited route leads to
    "--global.checknewversion=false",
)


@attrs.frozen
class Server:
    """A program that answers ``GET /``, of the first `PER_WINDOW` requests in a time of 1 to 2.5 s."""

    name: str
    command: tuple[str, ...]
    """Where it says PORT, the port goes."""
    tells: bool = True
    """Whether a refusal says when to come back. If not, each task has to find out by itself."""
    retry: RetryConfig | None = None
    """How the manager retries, where its default does not do."""
    waves: int = WAVES
    """How many may be needed, where that is something else."""

    def installed(self) -> bool:
        program = self.command[0]
        return "/" in program or shutil.which(program) is not None

    def started_as(self, port: int, folder: Path) -> list[str]:
        program, *arguments = (part.replace("PORT", str(port)) for part in self.command)
        return [str(folder / program) if "/" in program else program, *arguments]


SERVERS = [
    Server("express-rate-limit, default", ("node", "express.mjs", "PORT", "legacy")),
    Server("express-rate-limit, draft-6", ("node", "express.mjs", "PORT", "draft-6")),
    Server("express-rate-limit, draft-7", ("node", "express.mjs", "PORT", "draft-7")),
    Server("express-rate-limit, draft-8", ("node", "express.mjs", "PORT", "draft-8")),
    Server("@fastify/rate-limit", ("node", "fastify.mjs", "PORT", "default")),
    Server("@fastify/rate-limit, continueExceeding", ("node", "fastify.mjs", "PORT", "continue")),
    # It cuts: of 2.5 s it says 2. Of 2 s it would say 1, and the margin may be too short for the rest, which
    # it may be here too, where few are refused: a second wave in a window.
    Server("koa-ratelimit", ("node", "koa.mjs", "PORT"), waves=2 * WAVES),
    Server("hono-rate-limiter, draft-6", ("node", "hono.mjs", "PORT", "draft-6")),
    Server("hono-rate-limiter, draft-7", ("node", "hono.mjs", "PORT", "draft-7")),
    Server("@nestjs/throttler", ("node", "nest.mjs", "PORT", "default")),
    Server("@nestjs/throttler, named", ("node", "nest.mjs", "PORT", "named")),
    Server("Flask-Limiter, delta-seconds", (PYTHON, "flask_app.py", "PORT", "delta-seconds")),
    Server("Flask-Limiter, http-date", (PYTHON, "flask_app.py", "PORT", "http-date")),
    Server("slowapi", (PYTHON, "slowapi_app.py", "PORT")),
    Server("Django REST framework", (PYTHON, "django_app.py", "PORT")),
    # It has no windows: 5 of the 10 come back in the second that it says.
    Server("quart-rate-limiter", (PYTHON, "quart_app.py", "PORT"), waves=2 * WAVES),
    Server("Litestar", (PYTHON, "litestar_app.py", "PORT")),
    Server("Traefik", TRAEFIK),
    # The backoff alone must reach past the time that it takes until all have been let in.
    Server(
        "nginx limit_req",
        ("nginx", "-p", ".", "-e", "stderr", "-c", "nginx.conf"),
        tells=False,
        retry=RetryConfig.exponential(initial_delay=1.0, max_attempts=8),
    ),
]
