"""What the schema cannot say alone: checks across keys, and what is allowed but worth a warning.

The checks read the raw tree, not the models, so that they still run when a field elsewhere is wrong.
"""

from __future__ import annotations

import ipaddress
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dongled.config.inputs import inputs
from dongled.config.layers import Key
from dongled.config.schema.settings import Settings
from dongled.config.secrets import mode_problem

Finding = tuple[Key, str]


@dataclass(frozen=True, slots=True)
class SettingsWarning:
    """Allowed, but an operator should know. ``id`` is stable."""

    id: str
    text: str
    hint: str


def cross_check(tree: dict[str, Any]) -> Iterator[Finding]:
    """What contradicts itself in a tree of settings, kebab-case keys, defaults left out."""
    streams, meetings = _tables(tree, "stream"), _tables(tree, "meeting")
    yield from _unique(streams, "stream", "id")
    yield from _unique(meetings, "meeting", "name")
    for index, stream in enumerate(streams):
        yield from _source(("stream", index), stream)
    for index, meeting in enumerate(meetings):
        yield from _meeting(("meeting", index), meeting, streams)
    if any(_encrypted(meeting) for meeting in meetings):
        if "token" not in tree:
            yield ("token",), "an encrypted meeting needs the terminal's token"
        if not _table(tree, "trust").get("roots"):
            yield ("trust", "roots"), "an encrypted meeting needs the roots that terminals are certified by"
    yield from _revocation(_table(tree, "trust"))
    yield from _authorizer(tree)
    yield from _attestation(_table(tree, "trust"))
    yield from _presence(_table(tree, "presence"), meetings)
    if isinstance(tree.get("token"), dict):
        yield from _token(tree["token"], "token")
    if isinstance(tree.get("data-token"), dict):
        yield from _data_token(tree["data-token"], _table(tree, "token"))
    if "enrolment" in tree:
        yield from _enrolment(tree)
    for index, server in enumerate(_tables(_table(tree, "ice"), "turn")):
        yield from _one_secret(("ice", "turn", index), server, "password", needed=True)
    yield from _public_and_plain(meetings)


def _source(at: Key, stream: dict[str, Any]) -> Iterator[Finding]:
    source = stream.get("source")
    for key, belongs in (("device", "camera"), ("path", "file"), ("loop", "file")):
        if key in stream and source in ("testsrc", "file", "camera") and source != belongs:
            yield (*at, key), f'has no use with source = "{source}"'
        elif source == belongs and key != "loop" and key not in stream:
            yield (*at, key), f'is missing: source = "{source}" needs it'


def _meeting(at: Key, meeting: dict[str, Any], streams: list[dict[str, Any]]) -> Iterator[Finding]:
    ids = [stream.get("id") for stream in streams]
    publish = meeting.get("publish")
    names = publish if isinstance(publish, list) else []
    for index, name in enumerate(names):
        if name not in ids:
            yield (*at, "publish", index), "names no [[stream]] of this configuration"
        elif name in names[:index]:
            yield (*at, "publish", index), "is named twice"
    for index, name in enumerate(own := _strings(meeting.get("private"))):
        if name not in ids:
            yield (*at, "private", index), "names no [[stream]] of this configuration"
        elif name in own[:index]:
            yield (*at, "private", index), "is named twice"
    yield from _one_secret(at, meeting, "room-pin")
    sfu = _table(meeting, "sfu")
    yield from _one_secret((*at, "sfu"), sfu, "token")
    yield from _one_secret((*at, "sfu"), sfu, "api-secret")
    if "ca-file" in sfu and str(sfu.get("url", "")).startswith("ws:"):
        yield (*at, "sfu", "ca-file"), "has no use with a ws:// address; use wss://"
    for index, sink in enumerate(_tables(meeting, "sink")):
        place = (*at, "sink", index)
        if sink.get("kind") in ("png", "mkv") and "path" not in sink:
            yield (*place, "path"), f'is missing: kind = "{sink["kind"]}" needs it'
        if not _known_fields(str(sink.get("path", ""))):
            yield (*place, "path"), "may hold {peer} and {stream} in braces, and no other brace"


def _known_fields(path: str) -> bool:
    rest = path.replace("{peer}", "").replace("{stream}", "")
    return "{" not in rest and "}" not in rest


def _revocation(trust: dict[str, Any]) -> Iterator[Finding]:
    how = trust.get("revocation", "either")
    for key, ways in (
        ("revocation-responder", ("ocsp", "either")),
        ("revocation-crls", ("crl", "either")),
        ("revocation-crl-urls", ("crl", "either")),
    ):
        if key in trust and how in ("off", "crl", "ocsp") and how not in ways:
            yield ("trust", key), f'has no use with revocation = "{how}"'


def _authorizer(tree: dict[str, Any]) -> Iterator[Finding]:
    settings, at = _table(tree, "authorizer"), "authorizer"
    kind = settings.get("kind", "list")
    own = ("url", "socket", "ca-file", "tls-certificate", "tls-key", "bearer-file", "bearer-credential")
    if kind != "program":
        for key in (*own, "timeout", "refresh", "remember"):
            if key in settings:
                yield (at, key), 'has no use but with kind = "program"'
    elif "url" not in settings and "socket" not in settings:
        yield (at, "url"), 'is missing: kind = "program" needs it, or socket'
    elif "url" in settings and "socket" in settings:
        yield (at, "socket"), "has no use beside url"
    elif "url" in settings and "ca-file" not in settings:
        yield (at, "ca-file"), "is missing: url needs the roots of the program's certificate"
    elif "socket" in settings:
        for key in ("ca-file", "tls-certificate", "tls-key"):
            if key in settings:
                yield (at, key), "has no use with socket"
    if kind != "operator" and "approval" in settings:
        yield (at, "approval"), 'has no use but with kind = "operator"'
    if ("tls-certificate" in settings) != ("tls-key" in settings):
        yield (at, "tls-key"), "a certificate and its key come together"
    refresh, remember = settings.get("refresh", 60), settings.get("remember", 300)
    if isinstance(refresh, int) and isinstance(remember, int) and remember <= refresh:
        yield (at, "remember"), "must be longer than refresh"
    yield from _one_secret((at,), settings, "bearer")
    if kind in ("program", "operator") and _table(tree, "trust").get("allow-viewers"):
        yield ("trust", "allow-viewers"), f'has no use with authorizer.kind = "{kind}"'


def _data_token(data: dict[str, Any], token: dict[str, Any]) -> Iterator[Finding]:
    yield from _token(data, "data-token")
    if not token:
        yield ("token",), "is missing: data-token is a second one beside it"
    if "uri" in data and (data.get("module"), data["uri"]) == (token.get("module"), token.get("uri")):
        yield ("data-token", "uri"), "names the same token as [token]: leave [data-token] out"


def _attestation(trust: dict[str, Any]) -> Iterator[Finding]:
    if trust.get("require-attestation") is True and not trust.get("attestation-roots"):
        yield ("trust", "attestation-roots"), "is missing: require-attestation = true needs it"


def _presence(presence: dict[str, Any], meetings: list[dict[str, Any]]) -> Iterator[Finding]:
    for key in ("require-for", "show-to"):
        if presence.get(key) and not presence.get("credentials"):
            yield ("presence", "credentials"), f"is missing: {key} needs it"
    published = {name for m in meetings if _encrypted(m) for name in _strings(m.get("publish"))}
    for index, name in enumerate(_strings(presence.get("require-for"))):
        if name != "*" and name not in published:
            yield ("presence", "require-for", index), "names no stream that an encrypted meeting publishes"


def _token(token: dict[str, Any], at: str) -> Iterator[Finding]:
    ways: list[str] = [key for key in ("pin-file", "pin-credential", "pin-fido") if key in token]
    ways += [key for key in ("pin-prompt", "pin-none") if token.get(key) is True]
    if len(ways) != 1:
        given = f"not {' and '.join(ways)}" if ways else "none is given"
        wanted = "pin-file, pin-credential, pin-fido, pin-prompt = true and pin-none = true"
        yield (at,), f"needs exactly one of {wanted}; {given}"
    if token.get("on-removal") == "mute" and "grace" in token:
        yield ("token", "grace"), 'has no use with on-removal = "mute"'
    uri = token.get("uri")
    # RFC 7512 section 2.3: attributes of the path are separated by ";", of the query by "&" after "?".
    path, _, query = uri.partition("?") if isinstance(uri, str) else ("", "", "")
    if "pin-value=" in query or "pin-source=" in query:
        yield (at, "uri"), "must not carry a PIN or its source; use pin-file or pin-credential"
    if isinstance(uri, str) and not any(
        attribute.startswith("serial=") and attribute != "serial="
        for attribute in path.removeprefix("pkcs11:").split(";")
    ):
        yield (
            (at, "uri"),
            "must name the token's serial (serial=...), so that another token is not taken for it",
        )


def _enrolment(tree: dict[str, Any]) -> Iterator[Finding]:
    enrolment, token = _table(tree, "enrolment"), _table(tree, "token")
    if "token" not in tree:
        yield ("token",), "enrolment needs the terminal's token"
    if not _table(tree, "trust").get("roots"):
        yield ("trust", "roots"), "enrolment needs the roots that terminals are certified by"
    if "data-officer-file" in enrolment and "data-token" not in tree:
        yield ("enrolment", "data-officer-file"), "has no use without [data-token]; use officer-file"
    for role in ("identity", "data"):
        if "certificate" in _table(token, role):
            yield ("token", role, "certificate"), "has no use with [enrolment], which keeps its own"
    yield from _one_secret(("enrolment",), enrolment, "password")
    path = urlsplit(str(enrolment.get("url", ""))).path
    if path not in ("", "/"):
        yield ("enrolment", "url"), "must have no path; /.well-known/est and the label are added to it"
    if ("tls-certificate" in enrolment) is not ("tls-key" in enrolment):
        yield ("enrolment", "tls-key"), "tls-certificate and tls-key belong together"


def _one_secret(at: Key, table: dict[str, Any], name: str, *, needed: bool = False) -> Iterator[Finding]:
    given = [key for key in (f"{name}-file", f"{name}-credential") if key in table]
    if len(given) > 1 or (needed and not given):
        yield (*at, f"{name}-file"), f"give exactly one of {name}-file and {name}-credential"


def _public_and_plain(meetings: list[dict[str, Any]]) -> Iterator[Finding]:
    """P10: no path from an encrypted meeting to a plain one, not even through a shared stream."""
    sealed = {name for m in meetings if _encrypted(m) for name in _strings(m.get("publish"))}
    public = {name for m in meetings for name in _strings(m.get("publish"))}
    for index, meeting in enumerate(meetings):
        for place, name in enumerate(_strings(meeting.get("private"))):
            if not _encrypted(meeting):
                yield ("meeting", index, "private", place), "has no use in a plain meeting"
            elif name in public:
                yield ("meeting", index, "private", place), "is published too; name a stream that is not"
        for place, name in enumerate(_strings(meeting.get("publish"))):
            if not _encrypted(meeting) and name in sealed:
                key = ("meeting", index, "publish", place)
                yield key, "is also published encrypted; give the plain meeting a stream of its own"


def file_check(settings: Settings) -> Iterator[Finding]:
    """Files that are to be read and are not there, or hold a secret that others may read."""
    for key, path, secret in inputs(settings):
        try:
            status = path.stat()
        except PermissionError:
            continue  # told by whoever reads it, as the user who will
        except (OSError, ValueError):
            yield key, f"{path} is not there"
            continue
        if not stat.S_ISREG(status.st_mode):
            yield key, f"{path} is not a regular file"
        elif secret and (problem := mode_problem(status)):
            yield key, f"{path} {problem}; chmod 600 it"


def settings_warnings(settings: Settings) -> list[SettingsWarning]:
    """What is allowed in these settings, and weak."""
    found = []
    trust = settings.trust
    encrypted = [meeting for meeting in settings.meeting if meeting.encryption == "required"]
    for meeting in settings.meeting:
        url = urlsplit(meeting.sfu.url)
        if meeting.encryption == "plain":
            text = f"meeting {meeting.name}: plain, the SFU and whoever runs it can watch"
            found.append(SettingsWarning("plain-meeting", text, 'encryption = "required" seals it'))
        if url.scheme == "ws" and not _loopback(url.hostname or ""):
            text = f"meeting {meeting.name}: its secrets for the SFU cross the network in clear text"
            found.append(SettingsWarning("sfu-unencrypted", text, "use a wss:// address"))
    if encrypted and trust.time_source == "system":
        text = "the system's clock is believed as it is: whoever sets it can revive expired certificates"
        found.append(
            SettingsWarning("time-source-system", text, 'trust.time-source = "untrusted" fails closed')
        )
    if encrypted and trust.time_source == "untrusted":
        text = "nobody vouches for the time, so no certificate is believed and no key granted"
        hint = (
            'trust.time-source = "rtc", "nts", "operator", or "system", which believes this machine\'s clock'
        )
        found.append(SettingsWarning("time-source-untrusted", text, hint))
    if encrypted and trust.minimum_assurance == "software":
        text = "peers whose keys may lie in software are accepted"
        found.append(SettingsWarning("assurance-software", text, 'trust.minimum-assurance = "hardware"'))
    if encrypted and trust.revocation == "off":
        text = "nobody is asked whether a certificate was revoked: a lost terminal can watch until it expires"
        found.append(SettingsWarning("revocation-off", text, 'trust.revocation = "either" asks the platform'))
    if encrypted and trust.revocation_grace:
        text = f"a revoked terminal can watch for {trust.revocation_grace} s more where nobody can be asked"
        found.append(SettingsWarning("revocation-grace", text, "trust.revocation-grace = 0 fails closed"))
    enrolment = settings.enrolment
    if enrolment and enrolment.password is None and enrolment.tls_certificate is None:
        text = "nothing is shown to the certificate platform that says who asks"
        hint = "enrolment.password-file, enrolment.password-credential or enrolment.tls-certificate"
        found.append(SettingsWarning("enrolment-anonymous", text, hint))
    listed = settings.authorizer.kind == "list"
    if listed and any(m.publish for m in encrypted) and not trust.allow_viewers:
        text = "streams are published and nobody may watch them"
        found.append(SettingsWarning("nobody-may-view", text, "list terminals in trust.allow-viewers"))
    if listed and any(m.publish for m in encrypted) and "*" in trust.allow_viewers:
        text = "every terminal that is certified as a viewer may watch"
        hint = "list terminals in trust.allow-viewers, or set [authorizer]"
        found.append(SettingsWarning("anybody-may-view", text, hint))
    if any(m.subscribe != "none" for m in encrypted) and not trust.allow_publishers:
        text = "streams are subscribed to and nobody's may be shown"
        found.append(SettingsWarning("nobody-may-publish", text, "list terminals in trust.allow-publishers"))
    given = [token for token in (settings.token, settings.data_token) if token is not None]
    if any(token.pin_none for token in given):
        text = "the token has no PIN: whoever takes it can be this terminal"
        found.append(SettingsWarning("pin-none", text, "give it a PIN, and name where that is"))
    if any(token.pin_fido for token in given):
        text = "somebody has to touch a FIDO2 key at every start"
        found.append(SettingsWarning("pin-fido", text, "pin-file or pin-credential start unattended"))
    if any(token.pin_prompt for token in given):
        text = "somebody has to type the token's PIN at every start"
        found.append(SettingsWarning("pin-prompt", text, "pin-file or pin-credential start unattended"))
    return found


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _encrypted(meeting: dict[str, Any]) -> bool:
    return meeting.get("encryption") != "plain"


def _unique(tables: list[dict[str, Any]], kind: str, key: str) -> Iterator[Finding]:
    counts = Counter(str(table.get(key)) for table in tables if key in table)
    for index, table in enumerate(tables):
        if counts[str(table.get(key))] > 1:
            yield (kind, index, key), "is used twice"


def _table(tree: dict[str, Any], key: str) -> dict[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}


def _tables(tree: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = tree.get(key)
    # A wrong element keeps its place, so that the others keep their index.
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
