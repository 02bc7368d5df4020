"""Janus's numbers as reasons and hints.

Numbers of the core: https://janus.conf.meetecho.com/docs/apierror_8h.html; of the plugins: the macros in
https://janus.conf.meetecho.com/docs/janus__videoroom_8c.html and janus__textroom_8c.html (1.1.2). The two
plugins use the same numbers for different things.
"""

from __future__ import annotations

from dongled.agent.sfu.api import SfuError
from dongled.agent.sfu.janus.wire import printable

CORE = "core"
VIDEOROOM = "janus.plugin.videoroom"
TEXTROOM = "janus.plugin.textroom"

# What an operator calls the rooms of each plugin.
KINDS = {VIDEOROOM: "video room", TEXTROOM: "text room"}

_CREATE = "set `create` so that the room is made when it is missing, or make it on the SFU"
_PIN = "the room's PIN here and on the SFU must be the same"
_BUG = "this is a fault of dongled or an unknown version of Janus; please report it"

_NAMES: dict[str, dict[int, tuple[str, str]]] = {
    CORE: {
        403: ("unauthorized", "check the API secret and the token against Janus's configuration"),
        405: ("unauthorized-plugin", "the token may not use this plugin: allow it on the SFU"),
        452: ("janus-request", _BUG),
        453: ("janus-request", _BUG),
        454: ("janus-request", _BUG),
        455: ("janus-request", _BUG),
        456: ("janus-request", _BUG),
        458: ("no-such-session", "the SFU forgot the session; dongled connects again"),
        459: ("no-such-handle", "the SFU forgot the handle; dongled connects again"),
        460: ("no-such-plugin", "Janus runs without this plugin: install or enable it"),
        461: ("plugin-attach", "Janus could not start the plugin: see its log"),
        462: ("plugin-message", "the plugin refused the message: see Janus's log"),
        464: ("sdp-refused", "the SFU did not take the offer or answer: see Janus's log"),
        465: ("sdp-refused", "the SFU did not take the offer or answer: see Janus's log"),
        469: ("sdp-refused", "the SFU did not take the offer or answer: see Janus's log"),
        470: ("unauthorized", "Janus does not know this token"),
        471: ("webrtc-state", "the SFU's peer connection was not ready; try again"),
        472: ("sfu-full", "Janus accepts no new sessions at the moment; try again later"),
    },
    VIDEOROOM: {
        423: ("janus-request", _BUG),
        424: ("join-first", _BUG),
        425: ("already-joined", _BUG),
        426: ("no-such-room", _CREATE),
        427: ("room-exists", "choose another room"),
        428: ("no-such-feed", "its publisher left or is not connected yet"),
        429: ("element-missing", _BUG),
        430: ("element-type", _BUG),
        431: ("sdp-refused", _BUG),
        432: ("room-full", "the room's `publishers` limit on the SFU is reached: raise it"),
        433: ("room-unauthorized", _PIN),
        434: ("already-published", _BUG),
        435: ("not-published", _BUG),
        436: ("id-exists", "another participant of the room has this id"),
        437: ("sdp-refused", "the SFU did not take the offer or answer: see Janus's log"),
    },
    TEXTROOM: {
        413: ("element-missing", _BUG),
        414: ("element-type", _BUG),
        415: ("janus-request", _BUG),
        416: ("already-joined", _BUG),
        417: ("no-such-room", _CREATE),
        418: ("room-exists", "choose another room"),
        419: ("room-unauthorized", _PIN),
        420: ("member-exists", "another member of the bus has this name: is the terminal running twice?"),
        421: ("already-joined", _BUG),
        422: ("not-in-room", "the SFU put this terminal out of the room; dongled connects again"),
        423: ("no-such-member", _BUG),
    },
}


def janus_error(realm: str, code: int, text: str) -> SfuError:
    """Janus's refusal as an SfuError. ``text`` is what it said: untrusted, cut and made printable."""
    reason, hint = _NAMES[realm].get(code, ("janus-error", "see Janus's log"))
    where = f" in the {KINDS[realm]}" if realm in KINDS else ""
    return SfuError(reason, f"Janus refused{where} ({code}): {printable(text, 160)}", hint)
