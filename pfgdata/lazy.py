"""Doors whose names are imported when they are first asked for: `pfgdata query` starts without torch.

What a door offers stands there once, as imports that only a type checker runs, so that one misspelt is seen.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # see pfgdata/__init__.py

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["lazy_imports"]


def lazy_imports(package: str) -> Callable[[str], Any]:
    """The `__getattr__` of `package`: the names that its source imports under `if TYPE_CHECKING:`."""
    homes: dict[str, str] = {}  # read at the first name asked for

    def get(name: str) -> Any:
        if not homes and not name.startswith("__"):
            homes.update(_homes(package))
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import importlib  # here: it and functools take as long as all else of `import pfgdata`

        return getattr(importlib.import_module(homes[name]), name)

    return get


def _homes(package: str) -> dict[str, str]:
    """Name -> the module it is imported from."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(sys.modules[package]))  # 0.3 ms for the longest
    blocks = (node.body for node in tree.body if isinstance(node, ast.If))
    imports = [node for block in blocks for node in block if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}
