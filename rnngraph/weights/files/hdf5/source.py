"""The bytes of an HDF5 file, and how much work may be done on them."""

from __future__ import annotations

from rnngraph.errors import ImportModelError

UNDEFINED = 2**64 - 1  # the address of what has not been stored
STEPS = 20_000  # structures that are read of any file, however small
MAX_STEPS = 2_000_000
ROOM = 64 * 2**20  # bytes of arrays that are read of any file, however small
RATIO = 64  # and beside them, bytes of arrays per byte of the file


class Source:
    """The bytes of a file behind its user block; every structure and every array that is made of them is paid for.

    A file may point anywhere, so that its structures overlap, repeat and contain themselves. The budget, in proportion
    to the file's size, keeps time and memory in bounds whatever it says.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.steps = min(MAX_STEPS, STEPS + len(data) // 8)
        self.room = ROOM + RATIO * len(data)
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}  # global heaps, by address, that have been looked into

    def step(self, count: int = 1) -> None:
        """Pay for ``count`` structures."""
        self.steps -= count
        if self.steps < 0:
            raise ImportModelError("the file's structures repeat or overlap without end")

    def pay(self, count: int) -> None:
        """Pay for ``count`` bytes of an array."""
        self.room -= count
        if self.room < 0:
            raise ImportModelError(f"the arrays are said to have far more bytes than a file of {len(self.data)} bytes "
                                   "can hold")

    def at(self, address: int, what: str, size: int | None = None) -> Cursor:
        """A cursor at an address, over ``size`` bytes or all that follow."""
        self.step()
        end = len(self.data) if size is None else address + size
        if not 0 <= address <= end <= len(self.data):
            where = "nowhere" if address == UNDEFINED else f"at byte {address}"
            raise ImportModelError(f"{what} {where}{'' if size is None else f', {size} bytes,'} is outside of the file "
                                   f"of {len(self.data)} bytes")
        return Cursor(self.data, address, end, what)

    def signed(self, address: int, signature: bytes, what: str) -> Cursor:
        """A cursor behind a signature."""
        cursor = self.at(address, what)
        found = bytes(cursor.take(len(signature)))
        if found != signature:
            raise ImportModelError(f"{what} at byte {address}: expected {signature!r}, got {found!r}")
        return cursor


class Cursor:
    """A place in the bytes of a structure; it never goes beyond its end."""

    __slots__ = ("data", "end", "pos", "what")

    def __init__(self, data: memoryview, pos: int, end: int, what: str) -> None:
        self.data = data
        self.pos = pos
        self.end = end
        self.what = what

    @property
    def left(self) -> int:
        return self.end - self.pos

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes; ImportModelError where there are fewer."""
        if not 0 <= count <= self.left:
            raise ImportModelError(f"{self.what} is cut off: {count} bytes expected, {self.left} are left")
        self.pos += count
        return self.data[self.pos - count : self.pos]

    def skip(self, count: int) -> None:
        self.take(count)

    def number(self, size: int) -> int:
        """An unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def u8(self) -> int:
        return self.number(1)

    def u16(self) -> int:
        return self.number(2)

    def u32(self) -> int:
        return self.number(4)

    def u64(self) -> int:
        return self.number(8)

    def within(self, count: int) -> Cursor:
        """A cursor over the next ``count`` bytes alone."""
        self.take(count)
        return Cursor(self.data, self.pos - count, self.pos, self.what)

    def version(self, *known: int) -> int:
        """A version in one byte; ImportModelError unless it is one of ``known``."""
        found = self.u8()
        if found not in known:
            raise ImportModelError(f"{self.what} has version {found}; known are {', '.join(map(str, known))}")
        return found


def text(raw: bytes | memoryview, what: str) -> str:
    """UTF-8 up to the first zero."""
    try:
        return bytes(raw).split(b"\0", 1)[0].decode("utf-8")
    except UnicodeDecodeError:
        raise ImportModelError(f"{what}: {bytes(raw)[:40]!r} is no text in UTF-8") from None
