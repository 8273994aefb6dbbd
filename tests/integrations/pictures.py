"""Pictures as answers hold them, and as they are stored: a line of the content, and an attachment."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 9
DATA = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{DATA}"
PICTURE: dict[str, Any] = {"type": "image_url", "image_url": {"url": URL}, "index": 0}
LINE = f"[image: image/png, {len(PNG)} bytes]"
DIGEST = {"bytes": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest()}
ATTACHED = {"kind": "image", "mime": "image/png", **DIGEST}
WITHHELD = {**PICTURE, "image_url": {"url": f"<{len(URL)} characters>"}}
"""`PICTURE` as unknown fields of an answer are kept."""

_LARGE = b"\x89PNG" * 2_000
LARGE_IN_TEXT = f"![cat](data:image/png;base64,{base64.b64encode(_LARGE).decode()})"
LARGE_LINE = "[image: image/png, 7.8 KB]"
LARGE_ATTACHED = {
    "kind": "image",
    "mime": "image/png",
    "bytes": len(_LARGE),
    "sha256": hashlib.sha256(_LARGE).hexdigest(),
}
