from trio_conman.http import HeadersLike, retry_after

DATE = "Sat, 28 Nov 2026 09:39:03 GMT"
REFUSALS: dict[str, HeadersLike] = {
    "a date": {"Date": DATE, "Retry-After": "Sat, 28 Nov 2026 09:39:06 GMT"},
    "two values": [
        ("Retry-After", "10"),
        ("Retry-After", "10"),
        ("RateLimit-Reset", "59"),
    ],
    "the latest draft": {"RateLimit": '"burst"; r=3; t=1, "day"; r=0; t=57'},
    "since 1970": {
        "Date": DATE,
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1795858746.5",
    },
    "a duration": {
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    },
    "nothing": {"Server": "nginx"},
}

for name, headers in REFUSALS.items():
    print(f"{name}: {retry_after(headers, status=429)}")
print(f"not refused: {retry_after({'Retry-After': '57'}, status=200)}")
