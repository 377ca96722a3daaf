"""Fetching a file that the user asked for: resumed where it broke off, believed only by its SHA-256. Loads no torch."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from SynthGANLib import __version__
from SynthGANLib.errors import CancelledError, InputError
from SynthGANLib.files import checked_digest, sha256_of

CHUNK = 2**18
LARGEST = 2**35
"""Bytes: no model is larger, and a server that sends more means to fill the disk."""
TIMEOUT_SECONDS = 30.0

Progress = Callable[[int, int | None], None]
"""Told the bytes there are and the bytes there will be (None where the server does not say)."""


def is_address(text: str) -> bool:
    """Whether this is meant as an address of the web and not as a file."""
    return text.lower().startswith(("https://", "http://"))


def checked_address(url: str) -> str:
    """`url` if it may be fetched: https, or http from this very machine; InputError otherwise."""
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise InputError(f"The address '{url}' is not safe to fetch from.", next_step="Use an address with https.")
    if not parts.hostname or parts.username or parts.password:
        raise InputError(f"The address '{url}' is not complete or holds a password.", next_step="Check it.")
    return url


def download_file(
    url: str,
    path: Path,
    sha256: str,
    *,
    progress: Progress = lambda done, total: None,
    cancel: Callable[[], bool] = lambda: False,
) -> None:
    """Fetch `url` to `path`, which appears complete and verified or not at all.

    What has arrived lies beside it as `<name>.<checksum>.part` and is gone on with at the next call, after an error, a
    cancel or a crash; a server that cannot resume sends the whole again.

    Raises:
        InputError: an address or checksum that is none, a server or disk that refuses, another checksum.
        CancelledError: `cancel` returned true.
    """
    checked_address(url)
    wanted = checked_digest(sha256)
    part = path.with_name(f"{path.name}.{wanted[:16]}.part")
    try:
        _fetch(url, part, progress, cancel)
        found = sha256_of(part)
        if found != wanted:
            part.unlink()  # going on with it would never end well
            raise InputError(
                f"What '{url}' sent has another checksum ({found[:16]}...) than the one given ({wanted[:16]}...).",
                next_step="Check address and checksum; if both are right, the file was changed on the way.",
            )
        os.replace(part, path)
    except OSError as error:
        raise _refused(url, path, error) from error
    except http.client.HTTPException as error:
        raise InputError(f"'{url}' broke off ({type(error).__name__}).", next_step="Try again: it goes on.") from error


def _fetch(url: str, part: Path, progress: Progress, cancel: Callable[[], bool]) -> None:
    """Complete `part`."""
    present = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"SynthGAN/{__version__}", "Accept-Encoding": "identity"}
    if present:
        headers["Range"] = f"bytes={present}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = _OPENER.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and present:  # all of it is there already, as far as the server is concerned
                return
        raise
    with answer:
        resumed = answer.status == 206
        if not resumed:
            present = 0
        length = answer.headers.get("Content-Length")
        total = present + int(length) if length and length.isdigit() else None
        room = shutil.disk_usage(part.parent).free
        if total is not None and total - present > room:
            raise InputError(
                f"'{url}' is {total / 1e9:.1f} GB, and '{part.parent}' has {room / 1e9:.1f} GB free.",
                next_step="Free some space, or choose another folder for models.",
            )
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(CHUNK):
                if cancel():
                    raise CancelledError("The download was cancelled.", next_step="Start it again: it goes on.")
                file.write(chunk)
                present += len(chunk)
                if present > LARGEST:
                    raise InputError(f"'{url}' sends more than {LARGEST >> 30} GiB.", next_step="Check the address.")
                progress(present, total)
        if total is not None and present < total:
            raise http.client.IncompleteRead(b"", total - present)


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect must lead to an address that might have been given."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        checked_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_CheckedRedirects())


def _refused(url: str, path: Path, error: OSError) -> InputError:
    if isinstance(error, urllib.error.HTTPError):
        return InputError(f"'{url}' answered {error.code} ({error.reason}).", next_step="Check the address.")
    if isinstance(error, urllib.error.URLError):
        return InputError(
            f"'{url}' cannot be reached ({error.reason}).",
            next_step="Check the network, or install the model from a file.",
        )
    if isinstance(error, TimeoutError | ConnectionError):
        return InputError(f"'{url}' does not answer any more.", next_step="Try again: it goes on where it broke off.")
    return InputError(
        f"The download cannot be kept in '{path.parent}' ({error.strerror or error}).",
        next_step="Check permissions and free space.",
    )
