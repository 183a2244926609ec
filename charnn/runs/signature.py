"""The signature of a run.json: the user whose run it is wrote the paths of the texts in it.

A run folder that comes from somebody else may name any path, and opening it could wait for ever or
give away what it contains. Only a key in the user's own folder makes a signature, so that one who
has the run but not the key cannot name paths. A run that is moved or copied keeps its signature.
"""

import contextlib
import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from charnn.errors import CharnnError
from charnn.files import read_small, replacing, state_folder
from charnn.runs.folder import set_aside

log = logging.getLogger(__name__)

_KEY_BYTES = 32


def sign(corpus: Sequence[str], val: Sequence[str]) -> str:
    """Return the signature of these paths, or "" if this user has no folder for a key."""
    key = _key() or _new_key()
    return "" if key is None else _signature(key, corpus, val)


def is_signed(signature: object, corpus: Sequence[str], val: Sequence[str]) -> bool:
    """Return True if this user has signed these paths."""
    key = _key()
    if key is None or not isinstance(signature, str):
        return False
    expected = _signature(key, corpus, val).encode()
    return hmac.compare_digest(signature.encode("utf-8", "replace"), expected)


def _signature(key: bytes, corpus: Sequence[str], val: Sequence[str]) -> str:
    data = json.dumps([list(corpus), list(val)]).encode()
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def _key() -> bytes | None:
    try:
        key = read_small(state_folder() / "key")
    except (CharnnError, OSError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _new_key() -> bytes | None:
    """Make the key, unless another process has made it meanwhile; return it."""
    with contextlib.suppress(CharnnError, OSError):
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "key"
        if path.is_file() and len(read_small(path)) != _KEY_BYTES:
            log.warning(f"{path}: damaged; it is kept as {set_aside(path).name}, with a new one")
        if not os.path.lexists(path):
            new = path.with_name(f"key.{secrets.token_hex(4)}")
            with replacing(new) as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)
                file.write(secrets.token_bytes(_KEY_BYTES))
            _name_key(new, path)
    return _key()


def _name_key(new: Path, path: Path) -> None:
    """Let `path` be the new key, unless another process has named its own so meanwhile: it may have
    signed with it already."""
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    except OSError:  # no hard links on this file system
        os.replace(new, path)
    new.unlink(missing_ok=True)
