"""Fetches what others have written and the dashboard ships, as `src/eventmq/web/static/VENDOR.toml` names it.

    python tools/vendor.py          fetch, check the hashes, put the files in place
    python tools/vendor.py --new    the same after a version was changed: tells the new hashes instead of checking

Needs npm, whose registry it asks; whoever installs EventMQ needs neither.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parent.parent / "src" / "eventmq" / "web" / "static"


def main(new: bool) -> int:
    """Fetches all; returns an exit code."""
    wrong = 0
    for package in tomllib.loads((STATIC / "VENDOR.toml").read_text()).values():
        for file, content in fetched(package):
            found = hashlib.sha256(content).hexdigest()
            if new or found == file["sha256"]:
                (STATIC / "vendor" / file["name"]).write_bytes(content)
                print(f"{file['name']} {found}")
            else:
                print(f"{file['name']} is {found}, expected {file['sha256']}", file=sys.stderr)
                wrong = 1
    return wrong


def fetched(package: dict[str, Any]) -> Iterator[tuple[dict[str, str], bytes]]:
    """The files of a package, as the registry has them."""
    name = f"{package['package']}@{package['version']}"
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["npm", "pack", "--silent", name], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(Path(folder) / packed.stdout.strip()) as archive:
            for file in package["files"]:
                member = archive.extractfile(f"package/{file['path']}")
                assert member is not None, f"{name} has no {file['path']}"
                yield file, member.read()


if __name__ == "__main__":
    sys.exit(main("--new" in sys.argv[1:]))
