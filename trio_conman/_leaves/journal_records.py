"""What the engine talks to: a section with the functions that make keys and stored forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, final

from trio.lowlevel import disable_ki_protection

from trio_conman._base.texts import beginning, short, text_of
from trio_conman._books.records import Answer

from .journal_file import LARGEST, Data, JournalError
from .journal_keys import key_text
from .journal_store import Shelf, Store
from .journal_values import decode_json, encode_json

_from_json = json.JSONDecoder().decode  # as users write it, with spaces around it


@final
class SectionRecords:
    """The `Records` of a section; see there. Its values are JSON where no functions for them are given."""

    __slots__ = ("_decode", "_encode", "_key", "_shelf", "_store")

    def __init__(
        self,
        store: Store,
        shelf: Shelf,
        key: Callable[..., Any] | None = None,
        encode: Callable[[Any], Data] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._key = key
        self._encode: Callable[[Any], Data] = encode_json if encode is None else partial(_encode, encode)
        self._decode: Callable[[Any], Any] = decode_json if decode is None else partial(_of_user, decode)
        if encode is not None and decode is None:
            self._encode, self._decode = partial(_encode_as_json, encode), _from_json

    def enter(self) -> None:
        """Raise unless it is open in this trio run."""
        self._store.enter()

    def key_of(self, args: tuple[Any, ...]) -> str:
        """The key of a task."""
        try:
            return key_text(args if self._key is None else (_of_user(self._key, *args),))
        except Exception as error:
            raise self._error(f"has no key for a task: {_text(error)}") from error

    def holds(self, key: str) -> bool:
        """Whether there is a value."""
        return self._shelf.holds(key)

    def claim(self, key: str) -> Any:
        """The value of a key, or an `Answer`."""
        data = self._shelf.claim(key)
        if isinstance(data, Answer):
            return data
        try:
            value = self._decode(data)
        except Exception as error:
            raise self._error(
                f"holds under {short(key)} what cannot be decoded: {_text(error)}; give it another version "
                "if it was encoded in another way"
            ) from error
        self._store.recalled += 1
        return value

    def keep(self, key: str, value: Any) -> int | None:
        """Record the value of a claimed key."""
        try:
            data = self._encode(value)
            # Lone surrogates are in no file.
            size = len(data.encode()) if isinstance(data, str) and not data.isascii() else len(data)
            if size > LARGEST:
                raise ValueError(f"it has {size:,} bytes, and there is room for {LARGEST:,}")
        except Exception as error:
            raise self._error(
                f"cannot hold the value of a task: {_text(error)}; give it functions that can, as in "
                "journal.section(name, encode=pack, decode=unpack)"
            ) from error
        return self._shelf.add(key, data)

    def release(self, key: str) -> None:
        """Give a claim back."""
        self._shelf.release(key)

    async def arrival(self, key: str) -> None:
        """Wait until a value was read."""
        await self._shelf.arrival(key)

    def follow(self, key: str, tell: Callable[[], object]) -> None:
        """Be told when a claim was given back."""
        self._shelf.follow(key, tell)

    async def committed(self, ticket: int) -> None:
        """Wait for the disk."""
        await self._store.committed(ticket)

    def _error(self, text: str) -> JournalError:
        return JournalError(f"{self._store.path}: section {self._shelf.name!r} {text}")


@disable_ki_protection
def _of_user(fn: Callable[..., Any], *args: Any) -> Any:
    """Call what may go on for long, or for ever, where the books are kept: a Ctrl-C may interrupt it."""
    return fn(*args)


def _encode(encode: Callable[[Any], Data], value: Any) -> Data:
    data: Data = _of_user(encode, value)
    # Plain ones, whose methods are not the user's: SQLite would even ask them for another form.
    if isinstance(data, str):
        return str.__str__(data)
    if isinstance(data, bytes):
        return bytes.__getitem__(data, slice(None))
    raise TypeError(f"encode must return a str or bytes, not {short(data)}")


def _encode_as_json(encode: Callable[[Any], Data], value: Any) -> str:
    """What could not be read again is refused while its value is there."""
    data = _of_user(encode, value)
    if not isinstance(data, str) or not _is_json(data):
        raise TypeError(f"encode must return JSON as a str, as there is no decode, not {short(data)}")
    return str.__str__(data)


def _is_json(data: str) -> bool:
    try:
        _from_json(data)
    except ValueError:
        return False
    return True


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {beginning(text_of(error), 1000)}"  # ours say the way out at their end
