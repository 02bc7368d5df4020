"""C_InitToken, which python-pkcs11 does not offer: called through the module's own function list."""

from __future__ import annotations

import ctypes

import pkcs11

LABEL_BYTES = 32
_INIT_TOKEN = 9  # C_Initialize is number 0 (PKCS#11 v2.40, pkcs11f.h)

# PKCS#11 v3.0, section 5.1: the return values that C_InitToken is specified to have and users can act on.
_ERRORS: dict[int, type[pkcs11.PKCS11Error]] = {
    0x30: pkcs11.DeviceError,
    0x32: pkcs11.DeviceRemoved,
    0x54: pkcs11.FunctionNotSupported,
    0xA0: pkcs11.PinIncorrect,
    0xA1: pkcs11.PinInvalid,
    0xA2: pkcs11.PinLenRange,
    0xA4: pkcs11.PinLocked,
    0xB6: pkcs11.SessionExists,
    0xE0: pkcs11.TokenNotPresent,
    0xE2: pkcs11.TokenWriteProtected,
}


class _FunctionList(ctypes.Structure):
    """CK_FUNCTION_LIST: a version, then pointers (naturally aligned everywhere but on Windows)."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * 68))


def init_token(module: str, slot: int, so_pin: str, label: str) -> None:
    """Initialise the token in a slot, erasing what it holds. The module must be loaded and initialised.

    Raises PKCS11Error.
    """
    library = ctypes.CDLL(module)
    functions = ctypes.POINTER(_FunctionList)()
    get_function_list = library.C_GetFunctionList
    get_function_list.restype = ctypes.c_ulong
    if get_function_list(ctypes.byref(functions)) != 0:
        raise pkcs11.GeneralError("C_GetFunctionList")
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p
    )
    call = prototype(functions.contents.functions[_INIT_TOKEN])
    pin = so_pin.encode()
    value = call(slot, pin, len(pin), label.encode().ljust(LABEL_BYTES, b" "))
    if value != 0:
        raise _ERRORS.get(value, pkcs11.GeneralError)(f"C_InitToken returned {value:#x}")
