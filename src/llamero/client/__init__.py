"""The typed client of our own HTTP API: what the command line talks through. It knows no terminal and no files.

Source: native-api §3, cli §1, §9.2 and §9.3. It is synchronous and uses the standard library alone, because a command
line starts in milliseconds or feels slow. `api` (the routes) stands on `transport` (the way there, through `proxies`,
with `credentials`, over `tls`), `values` (what replies are) and `replies`, `fields` and `refusals` (which make them).
"""

from .api import Client
from .bodies import UPLOAD_BLOCK_BYTES, Download
from .credentials import bearer
from .proxies import Proxies, matches
from .refusals import NOBODY_BEHIND
from .tls import Certificates
from .transport import MAX_LINE_BYTES
from .values import (
    ZERO_TIME,
    ApiKey,
    Ask,
    ListedModel,
    LoadingModel,
    Metrics,
    Part,
    Running,
    RunningModel,
    SavedPrompt,
    ShownModel,
    WaitingRequest,
)

__all__ = [
    "MAX_LINE_BYTES",
    "NOBODY_BEHIND",
    "UPLOAD_BLOCK_BYTES",
    "ZERO_TIME",
    "ApiKey",
    "Ask",
    "Certificates",
    "Client",
    "Download",
    "ListedModel",
    "LoadingModel",
    "Metrics",
    "Part",
    "Proxies",
    "Running",
    "RunningModel",
    "SavedPrompt",
    "ShownModel",
    "WaitingRequest",
    "bearer",
    "matches",
]
