"""CTAP 2.1, section 8.2: status codes."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    INVALID_COMMAND = 0x01
    INVALID_PARAMETER = 0x02
    INVALID_LENGTH = 0x03
    CBOR_UNEXPECTED_TYPE = 0x11
    INVALID_CBOR = 0x12
    MISSING_PARAMETER = 0x14
    CREDENTIAL_EXCLUDED = 0x19
    UNSUPPORTED_ALGORITHM = 0x26
    UNSUPPORTED_OPTION = 0x2B
    KEEPALIVE_CANCEL = 0x2D
    NO_CREDENTIALS = 0x2E
    USER_ACTION_TIMEOUT = 0x2F
    PIN_INVALID = 0x31
    PIN_BLOCKED = 0x32
    PIN_AUTH_INVALID = 0x33
    PIN_AUTH_BLOCKED = 0x34
    PIN_NOT_SET = 0x35
    PUAT_REQUIRED = 0x36
    PIN_POLICY_VIOLATION = 0x37
    INVALID_SUBCOMMAND = 0x3E


class CtapRefused(Exception):
    """A command that the authenticator refuses."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status
