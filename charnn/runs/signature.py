"""The signature of a run.json: the user whose run it is wrote the paths of the texts in it.

A run folder that comes from somebody else may name any path, and opening it could wait for ever or
give away what it contains. Only a key in the user's own folder makes a signature, so that one who
has the run but not the key cannot name paths. A run that is moved or copied keeps its signature.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence

from charnn.errors import CharnnError
from charnn.files import read_small, replacing, state_folder

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
        if not os.path.lexists(path):
            with replacing(path) as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)
                file.write(secrets.token_bytes(_KEY_BYTES))
    return _key()
