"""Every number of the protocol, as docs/protocol.md (Timers, Limits) lists them. Seconds and bytes."""

from __future__ import annotations

VERSION = "dongled/1"

# Sizes
MESSAGE = 65_536
CBOR_DEPTH = 8
CHAIN = 4
CERTIFICATE = 8_192
NAME = 255
STREAMS = 8
PEERS = 64
UINT = 2**64 - 1

NONCE = 16
SESSION = 16
HASH = 32
POINT = 65
XWING_PUBLIC = 1_216
XWING_ENC = 1_120
AEAD_TAG = 16
# Nh of RFC 9605, section 4.5, table 1, by SFrame suite.
BASE_KEY = {4: 32, 5: 64}

# Evidence: of all together, of each OCSP answer, of each field of an assertion (WebAuthn, 4 and 6.1)
EVIDENCE = 24_576
STAPLES = 8
STAPLE = 4_096
CREDENTIAL = 1_023
AUTHENTICATOR_DATA = 37
FIDO = 1_024
ATTESTATION = 6

# Liveness
BEACON = 7.0
LIVE = 25.0
FIRST_BEACON = 1.0
STALE = 2.0
BEACON_LAG = 2.0
ROSTER_SPLIT = 30.0
# A peer's nonce is not echoed in a request when it may be refused as old on arrival.
ECHO_USABLE = 18.0

# Publishing
BATCH = 0.5
SWITCH = 0.25
RETIRE = 2.0
REKEYS_KEPT = 4
ANSWER_AGAIN = 0.4
# New requests that one terminal may make at once, and how many more each second.
REQUEST_BURST = 8.0
REQUEST_RATE = 1.0

# Requests that await a verdict: sessions, how long each is kept, how often it is judged again. Who asked
# asks anew before its request is dropped.
HELD_REQUESTS = 32
HELD_REQUEST = 90.0
JUDGE_AGAIN = 1.0
PENDING_PAUSE = 60.0

# Subscribing
ASK_AGAIN = 2.0
RETRY_FIRST = 0.6
RETRY_MOST = 5.0
RETRANSMIT = 10.0
REFUSED_PAUSE = 30.0
SKIP = 64

# Rounds. The longest gap between two fresh generations, 265 + 60 s, and a switch of at most 1 s leave the
# token 4 s of the 330 within which stolen secrets heal.
ROUND = 240.0
ROUND_JITTER = 25.0
RENEW = 60.0
RENEW_SPREAD = 15.0
EXPIRE = 62.0

# Expulsion
EXPELS = 16
EXPEL_REASON = 200
EXPEL_LIFETIME = 43_200.0
EXPEL_MOST = 86_400

# Private sessions
PRIVATE_SESSIONS = 4
PRIVATE_STREAMS = 4
INVITE_LIFETIME = 120
INVITE_MOST = 600
INVITE_SLACK = 10.0
PRIVATE_SWITCH = 1.0
# A terminal's public streams and its private ones.
BEACON_STREAMS = STREAMS + PRIVATE_SESSIONS * PRIVATE_STREAMS
LETTER = 1_280
LETTER_SEALED = XWING_ENC + LETTER + AEAD_TAG
LETTERS_KEPT = 64
LETTER_BURST = 32.0
LETTER_RATE = 4.0
LETTER_DERIVES_BURST = 8.0
LETTER_DERIVES_RATE = 0.2
LETTER_REACK = 0.4

# Introductions
INTRODUCE_AGAIN = 0.25
ANNOUNCE_AGAIN = 1.0
ANNOUNCE_MOST = 8.0
WELCOME_AGAIN = 1.0
# Welcomes to one terminal, of whatever sessions.
WELCOME_BURST = 8.0
WELCOME_RATE = 1.0
HELD_SECONDS = 5.0
HELD_SENDERS = 32
HELD_EACH = 4
GRACE = 10.0
TOMBSTONES = 512
GHOST = 60.0
TOKEN_AGAIN = 1.0

# Flood: messages a source may send at once, and how many more each second; sources told apart.
QUOTA_BURST = 200.0
QUOTA_RATE = 30.0
SOURCES = 256
