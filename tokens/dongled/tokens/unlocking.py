"""A token's PIN as the settings say where it is, or as an operator hands it to the daemon."""

from __future__ import annotations

from collections.abc import Callable

from dongled.tokens.errors import TokenError
from dongled.tokens.fido.source import FidoPin
from dongled.tokens.pin import Pin, PinPrompt, PinSource


class NobodyYet:
    """A ``PinSource`` that has none: it takes an operator."""

    attended = False
    description = "an operator"

    def version(self) -> tuple[str, ...]:
        raise TokenError(
            "pin-wanted",
            "nobody has given the PIN yet",
            "`dongled token unlock` asks for it and hands it over",
        )

    def read(self) -> Pin:
        raise TokenError("pin-wanted", "nobody has given the PIN yet")


class Unlocking:
    """A ``PinSource`` that stays while what it stands for changes. ``configured`` may raise TokenError."""

    def __init__(self, configured: Callable[[], PinSource]) -> None:
        self._configured = configured
        self._handed: PinPrompt | None = None
        self._versioned: PinSource | None = None

    @property
    def current(self) -> PinSource:
        return self._handed or self._configured()

    @property
    def description(self) -> str:
        return self.current.description

    @property
    def attended(self) -> bool:
        return self.current.attended

    def version(self) -> tuple[str, ...]:
        self._versioned = self.current
        return self._versioned.version()

    def read(self) -> Pin:
        # Of the source whose version was told: a PIN handed over in between would be tried as that one's,
        # and again as itself.
        return (self._versioned or self.current).read()

    def hand_over(self, pin: Pin) -> None:
        """The token's PIN. Each one handed over is a source of its own: tried once."""
        self._handed = PinPrompt(pin.reveal, "an operator")

    def hand_over_to_key(self, pin: Pin) -> None:
        """The PIN of the FIDO2 key that unseals the token's. Raises TokenError."""
        source = self._configured()
        if not isinstance(source, FidoPin):
            raise TokenError(
                "fido-not-configured", "no FIDO2 key unlocks this token", "name its file in [token] pin-fido"
            )
        self._handed = None
        source.key_pin = lambda: pin

    def take_back(self) -> None:
        """What was handed over did not open the token, or is not needed any more."""
        self._handed = None
        source = self._configured_quietly()
        if isinstance(source, FidoPin):
            source.key_pin = None

    def stop_waiting(self) -> None:
        """Nobody has to touch anything any more."""
        source = self._configured_quietly()
        if isinstance(source, FidoPin):
            source.cancel()

    def _configured_quietly(self) -> PinSource | None:
        try:
            return self._configured()
        except TokenError:
            return None
