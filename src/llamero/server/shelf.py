"""The models of the store as the caller of the moment may see and use them: a key may be for some only.

A model that was made from another is as good as that one: a key needs both. What is not on its list is forbidden before
the store is asked, so that nobody learns what there is. Source: security §6.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from ..errors import Forbidden, InvalidName, ModelNotFound, StorageError
from ..names import ModelName
from ..store import Model, Store, Summary
from .caller import caller

FORBIDDEN = "forbidden: this API key is not for model '{}'"
FORBIDDEN_BASE = "forbidden: model '{}' is made from '{}', which this API key is not for"


class Shelf:
    def __init__(self, store: Store) -> None:
        self._store = store

    def resolve(self, name: ModelName) -> Model:
        """Everything known about a model. Forbidden, ModelNotFound, StorageError."""
        check_name(name)
        model = self._store.resolve(name)
        self._check_bases(model)
        return model

    @contextmanager
    def using(self, name: ModelName) -> Iterator[Model]:
        """`resolve`, and for the length of the block the model's files stay."""
        check_name(name)
        with self._store.using(name) as model:
            self._check_bases(model)
            yield model

    def list(self) -> list[Summary]:
        """Every model that the caller may use, newest first."""
        return [each for each in self._store.list() if self.allows(each.name)]

    def allows(self, name: ModelName) -> bool:
        """Whether the caller may use a model, and know of it."""
        return not caller.get().models or (is_listed(name) and not self._forbidden_base(name))

    def _check_bases(self, model: Model) -> None:
        if caller.get().models and (base := self._forbidden_base(model.name)):
            raise Forbidden(FORBIDDEN_BASE.format(model.name.display, base))

    def _forbidden_base(self, name: ModelName) -> str:
        """One of the models that this one was made from, near or far, that is not on the caller's list; empty when
        there is none. Where a name leads to nothing any more nobody knows what was before."""
        to_look_at, seen = [name], set[str]()
        while to_look_at:
            for base in self._bases(to_look_at.pop()) - seen:
                seen.add(base)
                try:
                    found = ModelName.parse(base)
                except InvalidName:  # other programs write paths of files there, too
                    continue
                if not is_listed(found):
                    return found.display
                to_look_at.append(found)
        return ""

    def _bases(self, name: ModelName) -> set[str]:
        """What the layers of a model came from; those that are its own say nothing."""
        try:
            manifest = self._store.manifests.read(self._store.manifests.adopt(name)).manifest
        except (ModelNotFound, StorageError):
            return set()
        return {layer.from_name for layer in manifest.layers if layer.from_name}


def check_name(name: ModelName) -> None:
    """Raises Forbidden for a model that is not on the caller's list, whether there is one or not."""
    if not is_listed(name):
        raise Forbidden(FORBIDDEN.format(name.display))


def is_listed(name: ModelName) -> bool:
    """Whether a name is on the caller's list; without a list each is."""
    models = caller.get().models
    return not models or name.full.lower() in _full_names(models)


@lru_cache(maxsize=1024)
def _full_names(models: tuple[str, ...]) -> frozenset[str]:
    """Of a key's list: as many lists as there are keys."""
    return frozenset(ModelName.parse(model).full.lower() for model in models)
