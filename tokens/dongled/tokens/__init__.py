"""Hardware keys. The only room that knows PKCS#11, PC/SC or CTAP."""
