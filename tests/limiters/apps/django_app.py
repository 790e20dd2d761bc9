import sys

import django
import waitress
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(
    SECRET_KEY="loopback",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework"],
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
)
django.setup()

from rest_framework.response import Response  # noqa: E402  # needs the settings
from rest_framework.throttling import AnonRateThrottle  # noqa: E402  # as above
from rest_framework.views import APIView  # noqa: E402  # as above


class TenInTwoSeconds(AnonRateThrottle):
    rate = "10/s"

    def parse_rate(self, rate: str) -> tuple[int, int]:
        return 10, 2


class Home(APIView):
    throttle_classes = (TenInTwoSeconds,)

    def get(self, request: object) -> Response:
        return Response("ok")


urlpatterns = [path("", Home.as_view())]
# One thread, for the throttle reads, adds and writes back: several at once would let more through.
waitress.serve(get_wsgi_application(), host="127.0.0.1", port=int(sys.argv[1]), threads=1)
