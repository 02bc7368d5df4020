"""The grant protocol as sans-IO state machines: bytes and a time in, bytes and events out."""
