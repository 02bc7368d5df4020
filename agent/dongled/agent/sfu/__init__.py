"""Speaking to the SFU, which nobody has to trust."""
