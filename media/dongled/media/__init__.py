"""Encode, seal (SFrame), packetize, open, decode; sinks. The only room that knows aiortc."""
