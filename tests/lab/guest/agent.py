"""Runs what the lab asks for, as root of the device: a line of JSON in, a line of JSON out.

Asked for is ``{"id", "command", "timeout"}``, a shell's; the answer is ``{"id", "status", "output"}``, and
status None means that it took too long. What stays must detach itself (systemd-run).
"""

import json
import os
import subprocess

PORT = "/dev/virtio-ports/lab"


def perform(command: str, timeout: float) -> tuple[int | None, str]:
    try:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return None, (late.output or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace")


def main() -> None:
    os.environ["SYSTEMD_PAGER"] = ""
    with open(PORT, "r+b", buffering=0) as port:
        port.write(b'{"id": "hello"}\n')
        line = b""
        while True:
            # A host that is not there reads as nothing.
            line += port.read(65536)
            while b"\n" in line:
                asked, _, line = line.partition(b"\n")
                request = json.loads(asked)
                status, output = perform(request["command"], request["timeout"])
                answer = {"id": request["id"], "status": status, "output": output}
                data = json.dumps(answer).encode() + b"\n"
                while data:
                    data = data[port.write(data) or 0 :]


main()
