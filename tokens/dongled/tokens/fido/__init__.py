"""FIDO2 keys: a secret that unlocks a token, and an operator's touch (CTAP 2.1).

https://fidoalliance.org/specs/fido-v2.1-ps-20210615/fido-client-to-authenticator-protocol-v2.1-ps-20210615.html
"""
