"""Plays the meeting twice, plain as a control and then encrypted, measures both, and judges."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from dongled.agent.control.client import fetch_status
from dongled.agent.demo.commands import start, stop
from dongled.agent.demo.eavesdropper import read_payloads
from dongled.agent.demo.janus import JanusServer
from dongled.agent.demo.measure import Player
from dongled.agent.demo.provision import Cast, make_authority, make_terminal, settings_text
from dongled.agent.demo.search import windows_found
from dongled.agent.demo.verdict import judge
from dongled.agent.errors import AgentError
from dongled.agent.status import DaemonStatus
from dongled.media.api import Picture
from dongled.media.sinks.png import encode_png

CONTROL_SECONDS = 4.0
# Until the first picture; the machine may be slow and busy.
PATIENCE = 30.0


@dataclass(slots=True)
class Outcome:
    """What a meeting left behind."""

    camera: DaemonStatus
    viewer: DaemonStatus
    player: Player
    seen: dict[str, int]
    forwarded: list[bytes]


def run_demo(directory: Path, seconds: float, report_file: Path | None, out: Path) -> bool:
    """Inside a namespace of its own. Prints as it goes; returns whether every claim held."""
    out.mkdir(parents=True, exist_ok=True)
    click.echo("making a certificate authority and two terminals, each on a token of its own ...")
    authority = make_authority(directory)
    camera = make_terminal(directory, "camera", "publisher", authority)
    viewer = make_terminal(directory, "viewer", "viewer", authority)
    with JanusServer(directory / "janus") as janus:
        outcomes = {}
        for encryption, length in (("plain", min(CONTROL_SECONDS, seconds)), ("required", seconds)):
            for cast in (camera, viewer):
                text = settings_text(cast, authority.root, camera.urn, viewer.urn, janus.url, encryption)
                (cast.folder / f"{encryption}.toml").write_text(text)
            title = "control: a plain meeting" if encryption == "plain" else "the encrypted meeting"
            click.echo(f"\n{title}, {length:.0f} s")
            outcomes[encryption] = play(directory, camera, viewer, janus.url, encryption, length)
    report = make_report(outcomes["plain"], outcomes["required"])
    save_pictures(directory, outcomes["required"], out)
    text = json.dumps(report, indent=2)
    (report_file or out / "report.json").write_text(text + "\n")
    return show_verdict(report, out)


def play(directory: Path, camera: Cast, viewer: Cast, url: str, encryption: str, seconds: float) -> Outcome:
    """One meeting, from the camera's start to the last process's end."""
    folder = directory / f"eavesdropper-{encryption}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:

        def running(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
            stack.callback(stop, process)
            return process

        settings = camera.folder / f"{encryption}.toml"
        running(start("run", "--config", settings, env=camera.env, log=camera.folder / "log"))
        ask(camera, lambda status: status.meetings[0].state == "joined")
        listener = running(eavesdrop(url, f"demo-{encryption}", folder))
        watching = running(
            start(
                "view",
                "--config",
                viewer.folder / f"{encryption}.toml",
                "--output",
                "-",
                "--socket",
                viewer.folder / "control.sock",
                env=viewer.env,
                log=viewer.folder / "log",
                pipe=True,
            )
        )
        assert watching.stdout is not None
        player = Player(watching.stdout)
        ask(viewer, lambda status: any(came.frames_opened for came in status.meetings[0].receiving))
        for _ in ticks(seconds):
            show_line(ask(camera), ask(viewer), player)
        outcome = Outcome(ask(camera), ask(viewer), player, {}, [])
        stop(watching)
        player.join(PATIENCE)
        stop(listener)
    outcome.seen = json.loads((folder / "seen.json").read_text())
    outcome.forwarded = read_payloads(folder / "rtp")
    return outcome


def eavesdrop(url: str, room: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dongled.agent.demo.eavesdropper", url, room, folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def ask(cast: Cast, until: Callable[[DaemonStatus], bool] = lambda status: True) -> DaemonStatus:
    """The terminal's status, as soon as ``until`` says yes to it. Raises AgentError ``demo-stuck``."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(AgentError):
            status = asyncio.run(fetch_status(cast.folder / "control.sock"))
            if until(status):
                return status
        if time.monotonic() > deadline:
            log = (cast.folder / "log").read_text(errors="replace")[-2000:]
            raise AgentError("demo-stuck", f"The {cast.name} does not get on. Its log ends:\n{log}")
        time.sleep(0.1)


def ticks(seconds: float) -> Iterator[None]:
    """Once a second for so many seconds."""
    begin = time.monotonic()
    for tick in range(1, int(seconds) + 1):
        time.sleep(max(0.0, begin + tick - time.monotonic()))
        yield
    time.sleep(max(0.0, begin + seconds - time.monotonic()))


def show_line(camera: DaemonStatus, viewer: DaemonStatus, player: Player) -> None:
    """One line of the live table."""
    sent = camera.meetings[0].sending[0]
    came = next(iter(viewer.meetings[0].receiving), None)
    latency = player.watched.latency_quantile(0.5)
    click.echo(
        f"  camera {sent.fps:4.1f} fps {sent.bitrate / 1e6:4.2f} Mbit/s | "
        f"viewer {came.fps if came else 0:4.1f} fps "
        f"{f'{latency:3.0f} ms' if latency is not None else '   -  '} "
        f"failed {sum(came.frames_failed.values()) if came else 0} | "
        f"generation {'-' if sent.generation is None else sent.generation} | "
        f"token ops: camera {camera.token.sign}+{camera.token.derive}, "
        f"viewer {viewer.token.sign}+{viewer.token.derive} (sign+derive)"
    )


def make_report(control: Outcome, meeting: Outcome) -> dict[str, Any]:
    """The report as docs/operations.md has it."""
    sent = meeting.camera.meetings[0].sending[0]
    came = meeting.viewer.meetings[0].receiving[0]
    watched = meeting.player.watched
    return {
        "camera": {"frames_sealed": sent.frames_sealed, "generation": sent.generation},
        "viewer": {
            "frames_opened": came.frames_opened,
            "frames_failed": sum(came.frames_failed.values()),
            "psnr_db_median": watched.psnr_median(),
            "latency_ms_p50": watched.latency_quantile(0.5),
            "latency_ms_p95": watched.latency_quantile(0.95),
            "first_frame_ms": came.first_frame_ms,
        },
        "eavesdropper": meeting.seen,
        "sfu": {"plaintext_found": windows_found(watched.frames, meeting.forwarded)},
        "token": {
            name: {
                "uri": status.token.uri,
                "keys": [asdict(key) for key in status.token.keys],
                "sign": status.token.sign,
                "derive": status.token.derive,
            }
            for name, status in (("camera", meeting.camera), ("viewer", meeting.viewer))
        },
        "control": {
            "eavesdropper_watchable": control.seen["frames_watchable"],
            "plaintext_found": windows_found(control.player.watched.frames, control.forwarded),
        },
    }


def save_pictures(directory: Path, meeting: Outcome, out: Path) -> None:
    if meeting.player.picture is not None:
        (out / "viewer.png").write_bytes(encode_png(Picture(meeting.player.picture, 0, 0.0)))
    stolen = directory / "eavesdropper-required" / "picture.png"
    if stolen.exists():
        (out / "eavesdropper.png").write_bytes(stolen.read_bytes())


def show_verdict(report: dict[str, Any], out: Path) -> bool:
    viewer, thief = report["viewer"], report["eavesdropper"]
    click.echo(
        f"\nviewer: {viewer['frames_opened']} frames opened, {viewer['frames_failed']} failed, "
        f"median PSNR {viewer['psnr_db_median'] or 0:.1f} dB, median latency {viewer['latency_ms_p50']} ms, "
        f"first frame after {viewer['first_frame_ms'] or 0:.0f} ms"
    )
    click.echo(
        f"eavesdropper: {thief['frames_received']} frames received, {thief['frames_decoded']} decoded, "
        f"{thief['frames_watchable']} watchable\n"
    )
    claims = judge(report)
    for text, held in claims:
        click.echo(f"  {'holds' if held else 'FAILS'}  {text}")
    click.echo(f"\npictures and report in {out}")
    return all(held for _, held in claims)
