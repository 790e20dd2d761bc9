import sys

import waitress
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

port, mode = sys.argv[1:]
app = Flask(__name__)
limiter = Limiter(
    get_remote_address,
    app=app,
    default_limits=["10 per 2 seconds"],
    storage_uri="memory://",
    headers_enabled=True,
    retry_after=mode,
)


@app.get("/")
def home() -> str:
    return "ok"


waitress.serve(app, host="127.0.0.1", port=int(port), threads=8)
