"""The error tree: what can go wrong, and which HTTP status says so.

It maps nothing to bytes: a dialect writes an error's text, the CLI prints it and chooses the exit code.

    LlameroError            500 internal
      BadRequest            400   InvalidField, InvalidName, InvalidDigest, InvalidModelFile, UnsupportedOption,
                                    Incapable, ContextTooLong (InputTooLong)
        TooLarge            413
      NotANumber            400   (500 towards clients that know better)
      NotSignedIn           401   (carries the sign-in link)
      Unauthorized          401   (carries WWW-Authenticate)
      Forbidden             403
      NotFound              404   ModelNotFound, BlobNotFound
      MethodNotAllowed      405   (carries Allow)
      RateLimited           429   (carries Retry-After)
      Cancelled             499
      NotSupported          501
      Busy                  503   (queue full; carries Retry-After)
      StorageError          500   (a full disk is 507)
      TemplateError         500   (400 where the template itself is what was sent)
      EngineError           500   LoadFailed (with the log tail), OutOfMemory, TemplateRefused,
                                    EngineDied, EngineGone, RanOutOfMemory, EngineSlow,
                                    TemplateStuck, AnswerUnreadable
      RegistryError         500   (502 towards clients of a proxy; `retryable`)
        RegistryAnswered    500   (with the status that the registry gave)
      ClientError           500   ServerRefused (no server there), ServerAnswered (with the status it gave)
"""

from __future__ import annotations

from collections.abc import Mapping


class LlameroError(Exception):
    """Base of everything we raise on purpose. `str(error)` is the text a person reads."""

    status = 500

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status

    @property
    def headers(self) -> Mapping[str, str]:
        """Extra response headers that belong to this error."""
        return {}


class BadRequest(LlameroError):
    status = 400


class InvalidField(BadRequest):
    """A field of a request cannot be what it is. `param` is its path (`messages[2].content`), `code` a word for it."""

    def __init__(self, message: str, param: str, code: str = "") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class InvalidName(BadRequest):
    """A model name that breaks the grammar of store-registry §1.1."""


class InvalidDigest(BadRequest):
    def __init__(self, message: str = "invalid digest format") -> None:
        super().__init__(message)


class InvalidModelFile(BadRequest):
    """A GGUF that is malformed or beyond our limits; `reason` is the part after the prefix.

    The same file is the client's fault when it uploads it (400) and the server's when it is already stored (500),
    so whoever reads a stored file raises it again with `status=500`.
    """

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(f"invalid model file: {reason}", status=status)
        self.reason = reason


class UnsupportedOption(BadRequest):
    """An option of the wrong type, or one that cannot be honoured."""


class Incapable(BadRequest):
    """`model`, as the request calls it, cannot do what is asked of it: `need`, in the words of `ollama show`."""

    def __init__(self, message: str, model: str, need: str) -> None:
        super().__init__(message)
        self.model = model
        self.need = need


class ContextTooLong(BadRequest):
    """The prompt does not fit the context window."""

    def __init__(
        self,
        message: str = "the prompt is longer than the context length currently available to the model; shorten the "
        "prompt, adjust the context length in settings, or use a model with a longer context length",
    ) -> None:
        super().__init__(message)


class InputTooLong(ContextTooLong):
    """A text that was to become a vector does not."""

    def __init__(self) -> None:
        super().__init__("the input length exceeds the context length")


class TooLarge(BadRequest):
    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"request body too large (limit {limit_bytes} bytes)")


class NotSignedIn(LlameroError):
    """Nobody is signed in to ollama.com; `signin_url` is where a person changes that, empty when it is no help."""

    status = 401

    def __init__(self, message: str, *, signin_url: str = "") -> None:
        super().__init__(message)
        self.signin_url = signin_url


class Unauthorized(LlameroError):
    """The request shows no API key, or none of this server's; `challenge` says what would be accepted."""

    status = 401

    def __init__(self, message: str = "unauthorized", *, challenge: str = 'Bearer realm="llamero"') -> None:
        super().__init__(message)
        self.challenge = challenge

    @property
    def headers(self) -> Mapping[str, str]:
        return {"WWW-Authenticate": self.challenge}


class Forbidden(LlameroError):
    status = 403


class NotFound(LlameroError):
    status = 404


class ModelNotFound(NotFound):
    """No such model. Each endpoint has its own wording (native-api §2.1), so the caller gives the text."""


class BlobNotFound(NotFound):
    def __init__(self, digest: str, *, status: int | None = None) -> None:
        super().__init__(f'blob "{digest}" not found', status=status)


class MethodNotAllowed(LlameroError):
    """A path that exists, asked with a method that it does not have; `allow` lists those that it has."""

    status = 405

    def __init__(self, allow: str) -> None:
        super().__init__("method not allowed")
        self.allow = allow

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Allow": self.allow}


class RateLimited(LlameroError):
    """Its caller asks for more than it may; after `retry_after_s` there is room again."""

    status = 429

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after_s)}


class Cancelled(LlameroError):
    """The client went away before its answer began."""

    status = 499

    def __init__(self, message: str = "request canceled") -> None:
        super().__init__(message)


class NotSupported(LlameroError):
    """Something that is known and wanted, and that this version does not do."""

    status = 501


class Busy(LlameroError):
    """A bounded queue is full."""

    status = 503

    def __init__(
        self,
        message: str = "server busy, please try again.  maximum pending requests exceeded",
        *,
        retry_after_s: int = 1,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after_s)}


class TemplateError(LlameroError):
    """A Go template that cannot be parsed or executed; the text is Go's, or names the limit that was reached."""


class StorageError(LlameroError):
    """The store cannot be read or written."""


class DiskFull(StorageError):
    status = 507


class EngineError(LlameroError):
    """The engine refused or broke; `status` is the engine's own when it gave one."""


class LoadFailed(EngineError):
    """A model could not be loaded. The text ends with what the engine said last."""


class OutOfMemory(LoadFailed):
    """A model does not fit, by our estimate or by the engine's own word."""


class TemplateRefused(LoadFailed):
    """The engine cannot use the chat template that it was to load a model with."""


class EngineDied(EngineError):
    """The engine's process ended, or its stream broke, while requests were running."""


class RanOutOfMemory(EngineDied):
    """A request was broken off for want of memory. Whether the engine lives on or not, others have to make room."""


class EngineGone(EngineDied):
    """The engine was ending when a request reached it: nothing came of it, and a fresh engine can be asked."""


class EngineSlow(EngineError):
    """An answer took longer than it may."""


class TemplateStuck(EngineSlow):
    """A chat template did not come to its end with what it was given to render."""


class AnswerUnreadable(EngineError):
    """The engine could not tell thinking, text and calls apart in what the model wrote, and broke its stream off."""

    begun = ""
    """What it had of a call that it did not read to its end."""


class NotANumber(LlameroError):
    """A vector holds NaN or infinity. The fault is not the request's, which Ollama blames all the same."""

    status = 400

    def __init__(self) -> None:
        super().__init__("embedding contains NaN or Inf values")


class RegistryError(LlameroError):
    """A registry (or the package index, for starters) could not give what was asked."""

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message, status=status)
        self.retryable = retryable


class RegistryAnswered(RegistryError):
    """A registry was reached and said no; `answer_status` is the status of its answer, from 400 up."""

    def __init__(self, message: str, answer_status: int) -> None:
        super().__init__(message)
        self.answer_status = answer_status


class ClientError(LlameroError):
    """Our own HTTP client could not get an answer; the text names the address and the cause."""


class ServerRefused(ClientError):
    """Nothing listens at the address."""


class ServerAnswered(ClientError):
    """The server answered with an error; `status` is its own.

    `signin_url` came with a 401 that a person can end by signing in to ollama.com there.
    """

    def __init__(self, message: str, *, status: int | None = None, signin_url: str = "") -> None:
        super().__init__(message, status=status)
        self.signin_url = signin_url


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first of what tasks did side by side. (`except*` of older Pythons wraps what is raised in it.)"""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
