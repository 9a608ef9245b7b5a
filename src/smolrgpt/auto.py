"""Registers SmolRGPT with the Auto classes of transformers when one of them is first used.

``import smolrgpt`` imports neither transformers nor torch. Whether transformers is imported before or after it, the first call of an Auto
class's ``from_pretrained`` imports ``smolrgpt.model``, which registers the model's classes.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # at run time importlib.abc costs more than the rest of this module
    from importlib.abc import Loader

#: Module of transformers -> its Auto class. Auto classes of models load the configuration first.
AUTO_CLASSES = {
    "transformers.models.auto.configuration_auto": "AutoConfig",
    "transformers.models.auto.image_processing_auto": "AutoImageProcessor",
    "transformers.models.auto.processing_auto": "AutoProcessor",
}


def register_on_first_use() -> None:
    """Register SmolRGPT with the Auto classes on their first use; call this once."""
    for name in AUTO_CLASSES:
        if name in sys.modules:
            _watch(sys.modules[name])
    sys.meta_path.insert(0, _AutoFinder())


def _watch(module: ModuleType) -> None:
    """Make the ``from_pretrained`` of a module's Auto class import ``smolrgpt.model`` first."""
    auto_class = getattr(module, AUTO_CLASSES[module.__name__])
    original: Callable[..., Any] = auto_class.from_pretrained.__func__

    @functools.wraps(original)
    def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
        import_module("smolrgpt.model")
        return original(cls, *args, **kwargs)

    auto_class.from_pretrained = classmethod(from_pretrained)


class _AutoFinder:
    """Finds the modules of ``AUTO_CLASSES`` as the other finders do, and watches them once they are loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the module's own specification with a loader that watches it; None for other modules."""
        if name not in AUTO_CLASSES:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _WatchingLoader(spec.loader))
        return spec


class _WatchingLoader:
    """Loads a module with its own loader, then watches it."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then watch its Auto class."""
        self.loader.exec_module(module)
        _watch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)
