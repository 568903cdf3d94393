"""Errors in the registry standard's shape: `{"errors": [{"code": ..., "message": ...}]}`.

Source: OCI distribution specification, "Error codes". General errors have their code in a table here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...dialects.gojson import encode
from ...errors import (
    BadRequest,
    BlobNotFound,
    Busy,
    Forbidden,
    InvalidDigest,
    InvalidName,
    LlameroError,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    RateLimited,
    Unauthorized,
)
from ..ranges import OutOfRange
from ..routes import ErrorShape

API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
"""By which clients know a registry of this standard."""


class RepositoryNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"repository '{name}' not found")


class UploadNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("nothing is uploaded here: this registry is read-only")


class BadPage(BadRequest):
    def __init__(self) -> None:
        super().__init__("n is not a number of results")


class NotAdmitted(Unauthorized):
    """Its `challenge` says where a token is to be had and for what."""

    @property
    def headers(self) -> Mapping[str, str]:
        return {**API_VERSION, **super().headers}


class Unavailable(LlameroError):
    """A model could not be fetched from its own registry; the text says why."""

    status = 502


CODES: Mapping[type[LlameroError], str] = {
    InvalidName: "NAME_INVALID",
    InvalidDigest: "DIGEST_INVALID",
    BadPage: "PAGINATION_NUMBER_INVALID",
    RepositoryNotFound: "NAME_UNKNOWN",
    ModelNotFound: "MANIFEST_UNKNOWN",
    BlobNotFound: "BLOB_UNKNOWN",
    UploadNotFound: "BLOB_UPLOAD_UNKNOWN",
    OutOfRange: "RANGE_INVALID",
    Unauthorized: "UNAUTHORIZED",
    Forbidden: "DENIED",
    RateLimited: "TOOMANYREQUESTS",
    MethodNotAllowed: "UNSUPPORTED",
    Busy: "UNAVAILABLE",
    Unavailable: "UNAVAILABLE",
    LlameroError: "UNKNOWN",
}


class RegistryProblem(msgspec.Struct):
    code: str
    message: str


class RegistryProblems(msgspec.Struct):
    errors: list[RegistryProblem]


def write_error(error: LlameroError, request_id: str = "") -> bytes:
    code = next(CODES[each] for each in type(error).__mro__ if each in CODES)
    return encode(RegistryProblems([RegistryProblem(code, str(error))]))


ERRORS = ErrorShape(write_error, RegistryProblems)
