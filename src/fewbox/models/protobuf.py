"""Read protobuf messages without protobuf: fields by number, their meaning known to the caller.

The bytes come from strangers. Every length is checked against what is really there before it is
used, and whatever is wrong is a :class:`FaultError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fewbox.errors import CheckpointError

# Far above any real message; it keeps one of empty fields from filling the memory.
_MAX_FIELDS = 1 << 17

DOWNLOAD_AGAIN = "the file is damaged or incomplete; download it again"


class FaultError(Exception):
    """What is wrong with some bytes; whoever knows the file makes a CheckpointError of it.

    Without a hint of its own it means that the bytes are damaged.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def blaming(place: object, *, if_damaged: str = DOWNLOAD_AGAIN) -> Iterator[None]:
    """Raise what goes wrong in the block as a CheckpointError that begins with ``place``.

    ``if_damaged`` is the hint where the bytes are not what they should be.
    """
    try:
        yield
    except FaultError as fault:
        raise CheckpointError(f"{place}: {fault}", hint=fault.hint or if_damaged) from fault
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{place}: a name is not UTF-8", hint=if_damaged) from error
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be read: {error.strerror or error}") from error


class Cursor:
    """Takes numbers and pieces from some bytes in a row, and never more than there are."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def is_at_end(self) -> bool:
        """Whether everything has been taken."""
        return self._position == len(self._data)

    def piece(self, size: int) -> memoryview:
        """The next ``size`` bytes, in place."""
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise FaultError(f"{size} bytes are announced at byte {start} of {len(self._data)}")
        return self._data[start : self._position]

    def number(self) -> int:
        """The next number of variable length, taken as unsigned.

        Where none may be negative, a negative number read so fails every check.
        """
        value = 0
        for step, byte in enumerate(self._data[self._position : self._position + 10]):
            value |= (byte & 0x7F) << (7 * step)
            if byte < 0x80:
                self._position += step + 1
                return value
        raise FaultError("a number has no end")


class Message:
    """The fields of one message, by number; a field may repeat. Pieces are views of its bytes."""

    def __init__(self, data: memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = {}
        cursor = Cursor(data)
        for _ in range(_MAX_FIELDS):
            if cursor.is_at_end():
                return
            number, kind = divmod(cursor.number(), 8)
            if kind not in (0, 1, 2, 5):
                raise FaultError("not a protobuf message")
            value = {1: 8, 5: 4}.get(kind) or cursor.number()  # itself, or the size of what follows
            self._fields.setdefault(number, []).append(cursor.piece(value) if kind else value)
        raise FaultError(f"a protobuf message of more than {_MAX_FIELDS} fields")

    def integer(self, number: int) -> int:
        """The last value of a field, as protobuf has it; 0 when it is absent."""
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise FaultError(f"field {number} of a protobuf message is not a number")
        return value

    def integers(self, number: int) -> list[int]:
        """All values of a field, each stored alone or many in one piece."""
        values = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                values.append(value)
                continue
            packed = Cursor(value)
            while not packed.is_at_end():
                values.append(packed.number())
        return values

    def pieces(self, number: int) -> list[memoryview]:
        """Every value of a field that is text, a message, or a number of fixed size."""
        return [value for value in self._fields.get(number, []) if isinstance(value, memoryview)]

    def texts(self, number: int) -> list[str]:
        """Every value of a field that is text."""
        return [str(piece, "utf-8") for piece in self.pieces(number)]

    def text(self, number: int) -> str:
        """The last value of a field that is text; empty when it is absent."""
        return "".join(self.texts(number)[-1:])

    def messages(self, number: int) -> Iterator[Message]:
        """Every value of a field that is a message."""
        return map(Message, self.pieces(number))

    def message(self, number: int) -> Message:
        """The last value of a field that is a message; one without fields when it is absent."""
        return Message((self.pieces(number) or [memoryview(b"")])[-1])
