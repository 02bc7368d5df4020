"""The worker process: one PKCS#11 module, one thread, and the only code that imports ``pkcs11``.

A module can kill or hang the process that it lives in, and python-pkcs11 is not safe with threads. So each
module gets a process of its own, which the broker may kill and start again. OpenSSH's ssh-pkcs11-helper is
the precedent.
"""
