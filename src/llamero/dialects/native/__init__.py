"""Ollama's own dialect: bodies of `/api/...` into the vocabulary of `messages`, steps of an answer into bytes. Pure.

The structs are the wire: field order is the reference's, `/openapi.json` is made from them. Source: native-api §1.5 to
§1.8, §2, §3.
"""

from .fields import KeepAlive, OptionMap, read_inputs, read_keep_alive, read_think
from .replies import (
    ChatReply,
    ChatWriter,
    Clock,
    EmbeddingsReply,
    EmbedReply,
    ErrorReply,
    GenerateReply,
    GenerateWriter,
    timestamp,
    write_embed,
    write_embeddings,
    write_error,
)
from .requests import (
    ChatBody,
    CopyBody,
    CreateBody,
    DeleteBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    PullBody,
    PushBody,
    ShowBody,
    read_chat,
    read_embed,
    read_embeddings,
    read_generate,
    unknown_fields,
)

__all__ = [
    "ChatBody",
    "ChatReply",
    "ChatWriter",
    "Clock",
    "CopyBody",
    "CreateBody",
    "DeleteBody",
    "EmbedBody",
    "EmbedReply",
    "EmbeddingsBody",
    "EmbeddingsReply",
    "ErrorReply",
    "GenerateBody",
    "GenerateReply",
    "GenerateWriter",
    "KeepAlive",
    "OptionMap",
    "PullBody",
    "PushBody",
    "ShowBody",
    "read_chat",
    "read_embed",
    "read_embeddings",
    "read_generate",
    "read_inputs",
    "read_keep_alive",
    "read_think",
    "timestamp",
    "unknown_fields",
    "write_embed",
    "write_embeddings",
    "write_error",
]
