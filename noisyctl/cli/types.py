"""The types that an option's value may have beside a path and a name. A slip is told in one line, with the cure."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from noisyctl.errors import ParamsError, suggest


@runtime_checkable
class ValueType(Protocol):
    """Reads the text that was given for an option. `shown` is what help shows for it."""

    @property
    def shown(self) -> str: ...
    def read(self, text: str, flag: str) -> int | float | str:
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
class Share:
    """A number between 0 and 1, neither of them."""

    shown: str = "0..1"

    def read(self, text: str, flag: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < 1:
            raise ParamsError(f"{flag} is {text!r}; give a number between 0 and 1, such as 0.1")
        return value


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
