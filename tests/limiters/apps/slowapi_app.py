import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

app = FastAPI()
app.state.limiter = limiter = Limiter(key_func=get_remote_address, headers_enabled=True)
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.get("/")
@limiter.limit("10/2seconds")
async def home(request: Request, response: Response) -> str:
    return "ok"


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
