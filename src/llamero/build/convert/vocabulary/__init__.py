"""Tokenizer files of a checkpoint -> `tokenizer.*` keys: one file per kind of vocabulary (store-registry §6.8).

The measure is that the engine gives a text the ids that the publisher's own tokenizer gives it. What the engine cannot
do goes to `Checkpoint.warn`, since it changes answers without an error.
"""

from __future__ import annotations

from ....errors import BadRequest
from ..checkpoint import Checkpoint
from ..family import Metadata
from .byte_pairs import byte_pairs, is_byte_pairs
from .chat_template import chat_template
from .sentence_pieces import described_pieces, is_sentence_pieces, model_pieces
from .tokens import model_of
from .word_pieces import word_pieces

__all__ = ["vocabulary", "word_pieces"]


def vocabulary(checkpoint: Checkpoint) -> Metadata:
    """The vocabulary that the folder has, its special tokens and its chat templates.

    1. `tokenizer.model` is SentencePiece, and preferred.
    2. `tokenizer.json` is what its model says: byte-level pairs, the pieces of a SentencePiece model, or word pieces.
    3. `vocab.txt` holds word pieces.

    Raises BadRequest for anything else, and for files that contradict themselves.
    """
    description = checkpoint.object("tokenizer.json")
    if checkpoint.has("tokenizer.model"):
        found = model_pieces(checkpoint, description)
    elif is_byte_pairs(description):
        found = byte_pairs(checkpoint, description)
    elif is_sentence_pieces(description):
        found = described_pieces(checkpoint, description)
    elif model_of(description).get("type") == "WordPiece" or (not description and checkpoint.has("vocab.txt")):
        found = word_pieces(checkpoint)
    else:
        raise BadRequest("unknown tokenizer format")
    return found | chat_template(checkpoint)
