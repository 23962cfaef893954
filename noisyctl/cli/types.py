"""The types that an option's value may have beside a path and a name. A slip is told in one line, with the cure."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from noisyctl.errors import ParamsError, suggest


@runtime_checkable
class ValueType(Protocol):
    """Reads the text that was given for an option. `shown` is what help shows for it."""

    @property
    def shown(self) -> str: ...
    def read(self, text: str, flag: str) -> int | str:
        """The value. Raises ParamsError that names the option's `flag`."""


@dataclass(frozen=True)
class WholeNumber:
    """A whole number from `least`, perhaps to `most`."""

    least: int = 0
    most: int | None = None
    shown: str = "int"

    def read(self, text: str, flag: str) -> int:
        if text.isascii() and text.isdecimal():
            value = int(text)
            if value >= self.least and (self.most is None or value <= self.most):
                return value
        until = "on" if self.most is None else f"to {self.most}"
        raise ParamsError(f"{flag} is {text!r}; give a whole number from {self.least} {until}")


@dataclass(frozen=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def shown(self) -> str:
        return "|".join(self.words)

    def read(self, text: str, flag: str) -> str:
        if text not in self.words:
            raise ParamsError(f"{flag} is {text!r}; {suggest(text, self.words)}")
        return text
