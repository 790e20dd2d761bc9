"""Objects whose every method raises."""

from typing import Any, NoReturn


class Hostile:
    """Raises from whatever a check, a comparison or a message might call."""

    def _raise(self, *_: Any) -> NoReturn:
        raise ZeroDivisionError("hostile")

    __repr__ = __str__ = __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _raise
    __len__ = __int__ = __float__ = __index__ = __format__ = __hash__ = _raise


class HostileError(Exception):
    """An exception that cannot be shown, compared, hashed, judged or pickled."""

    def _raise(self, *_: Any) -> NoReturn:
        raise ZeroDivisionError("hostile")

    __repr__ = __str__ = __bool__ = __eq__ = __ne__ = __reduce__ = __hash__ = _raise


class Moody:
    """A key that can be hashed until it is told otherwise."""

    may_be_hashed = True

    def __hash__(self) -> int:
        if not self.may_be_hashed:
            raise ValueError("no more")
        return 1
