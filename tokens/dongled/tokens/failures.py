"""From what a PKCS#11 module said to what its user can do about it."""

from __future__ import annotations

from dongled.tokens.errors import TokenError

# PKCS#11 v3.0, section 5.1, by the bindings' names: reason, message, hint.
_KNOWN: dict[str, tuple[str, str, str]] = {
    "PinIncorrect": (
        "pin-wrong",
        "the token refused the PIN",
        "put the right PIN in place before you try again: a card locks after a few wrong ones",
    ),
    "PinInvalid": ("pin-wrong", "the token refused the PIN as malformed", "check how long a PIN it takes"),
    "PinLenRange": ("pin-wrong", "the token refused the PIN's length", "check how long a PIN it takes"),
    "PinTooWeak": ("pin-weak", "the token refused the new PIN as too weak", "choose a longer one"),
    "PinLocked": ("pin-locked", "the PIN is locked", "unblock it with the PUK or the security officer's PIN"),
    "PinExpired": ("pin-expired", "the PIN has expired", "set a new one with the token's own tool"),
    "UserPinNotInitialized": (
        "pin-unset",
        "the token has no user PIN yet",
        "`dongled token init` sets one",
    ),
    "TokenNotPresent": ("token-absent", "the token is not there", "insert it"),
    "NoSuchToken": ("token-absent", "the token is not there", "insert it"),
    "DeviceRemoved": ("token-absent", "the token was removed", "insert it again"),
    "SlotIDInvalid": ("token-absent", "the token's slot is gone", "insert the token again"),
    "TokenNotRecognised": (
        "token-unknown",
        "the module does not know this kind of token",
        "use its own module",
    ),
    "TokenWriteProtected": ("token-read-only", "the token is write-protected", "lift its write protection"),
    "SessionReadOnly": ("token-read-only", "the token takes no changes", "lift its write protection"),
    "DeviceMemory": ("token-full", "the token is full", "delete what is not needed on it"),
    "SessionCount": ("token-busy", "the token has no session left", "close other programs that use it"),
    "SessionExists": ("token-busy", "another program has the token open", "close it and try again"),
    "NoSuchKey": ("key-missing", "the key is not on the token", "`dongled token show` lists what is"),
    "KeyHandleInvalid": ("key-missing", "the key is no longer on the token", "was it deleted elsewhere?"),
    "ObjectHandleInvalid": (
        "key-missing",
        "the object is no longer on the token",
        "was it deleted elsewhere?",
    ),
    "MechanismInvalid": (
        "token-unable",
        "the token or its module cannot do that",
        "it needs ECDSA and ECDH with P-256; a newer module may offer both",
    ),
    "FunctionNotSupported": ("token-unable", "the module cannot do that", "use the token's own tool for it"),
    "KeyTypeInconsistent": (
        "key-usage",
        "the key is not of the right type",
        "generate it with `dongled token keygen`",
    ),
    "AttributeError": ("key-usage", "the key does not allow that", "generate it with `dongled token keygen`"),
}

# After these the session, or the module, is of no use: only a fresh one will do.
POISONED = frozenset(
    {
        "DeviceError", "DeviceRemoved", "TokenNotPresent", "SessionClosed", "SessionHandleInvalid",
        "UserNotLoggedIn", "KeyHandleInvalid", "ObjectHandleInvalid", "GeneralError", "FunctionFailed",
        "HostMemory", "OperationActive", "PKCS11Error",
        # ykcs11 2.7, when another program has selected another applet.
        "FunctionNotSupported",
    }
)  # fmt: skip

# The token looked at the PIN and said no.
PIN_REFUSED = frozenset({"PinIncorrect", "PinInvalid", "PinLenRange", "PinLocked", "PinExpired"})


class ModuleFault(TokenError):
    """What the module answered: ``name`` is the exception's in the PKCS#11 bindings, ``text`` its own."""

    def __init__(self, name: str, text: str) -> None:
        known = _KNOWN.get(name)
        if known is None:
            detail = f"{name}: {text}" if text else name
            known = (
                "token-fault",
                f"the PKCS#11 module failed ({detail})",
                "`dongled token list` shows if it works",
            )
        super().__init__(*known)
        self.name = name
        self.text = text


class WorkerLost(TokenError):
    """The worker process died, or broke the protocol."""

    def __init__(self, how: str) -> None:
        super().__init__(
            "worker-lost",
            f"the token's worker process is gone ({how})",
            "it is started again; if this repeats, the PKCS#11 module crashes: update it",
        )


class DeadlinePassed(TokenError):
    """The module did not answer in time; its worker was killed."""

    def __init__(self, operation: str, seconds: float) -> None:
        super().__init__(
            "token-timeout",
            f"the token did not answer within {seconds:g} s ({operation})",
            "is its reader connected, and no other program holding it?",
        )
