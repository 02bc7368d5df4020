"""Files that root writes into the daemon's directory: the daemon's user has to be able to go on with them."""

from __future__ import annotations

import os
from pathlib import Path


def give_away(descriptor: int, directory: Path) -> None:
    """Give a file that was just made there its directory's owner, if it was root who made it. Raises OSError.

    By its descriptor: by its name, whoever owns the directory could have another file given to them.
    """
    status = directory.stat()
    if os.geteuid() == 0 and status.st_uid != 0:
        os.fchown(descriptor, status.st_uid, status.st_gid)
