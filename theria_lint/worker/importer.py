"""Import a file as part of its package, with some sources replaced in memory."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import linecache
import os
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from theria_lint.calls.call_file import LINTED_PREFIX
from theria_lint.confirm.protocol import digest_text
from theria_lint.reasons import CodedError, ReasonCode
from theria_lint.sources.source_text import decode_source
from theria_lint.worker.failure_messages import ChangedFileError, NotDefinedError


def replace_sources(overrides: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Make every later import of the given absolute paths compile the given text instead of the file.

    ``inspect.getsource``, which Triton's decorator calls, is given the same text. ``digests`` are those of the texts
    that other files are to have: an import of one that has changed raises ChangedFileError.
    """
    texts = {os.path.realpath(path): text for path, text in overrides.items()}
    known = {os.path.realpath(path): text for path, text in digests.items()}
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = os.path.realpath(self.get_filename(fullname))
        if path not in texts and path in known and digest_text(decode_source(self.get_data(path))) != known[path]:
            raise ChangedFileError(path)
        asks = fullname.partition(".")[0] not in _TRUSTED and _asks_device_type(path)
        if path not in texts and not asks:
            return original(self, fullname)
        tree = ast.parse(texts.get(path) or self.get_data(path))
        if asks and hasattr(builtins, DEVICE_TYPE):
            tree = ast.fix_missing_locations(_DeviceTypeRewriter().visit(tree))
        return compile(tree, self.get_filename(fullname), "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    for path, text in overrides.items():
        # An entry without a modification time is never checked against the file.
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)


DEVICE_TYPE = "_theria_device_type"
"""The built-in function that stands for ``.type`` of a device in rewritten code."""

_TRUSTED = frozenset({"torch", "triton", "numpy", "theria", "theria_lint", "transformers", "sympy", "torchvision"})


def _asks_device_type(path: str) -> bool:
    try:
        return b"device.type" in Path(path).read_bytes()
    except OSError:
        return False


class _DeviceTypeRewriter(ast.NodeTransformer):
    """Rewrites ``x.device.type`` to a call: ``torch.device`` itself takes no replacement."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Replace the attribute where it is read of something called a device."""
        self.generic_visit(node)
        owner = node.value
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if node.attr != "type" or not isinstance(node.ctx, ast.Load) or not name.endswith("device"):
            return node
        call = ast.Call(ast.Name(DEVICE_TYPE, ast.Load()), [owner], [])
        return ast.copy_location(call, node)


def import_again(target: Any, symbol: str) -> Any:
    """Import a target's module, and all of its package, once more: what was decided at import is decided anew.

    Where that fails the package is as it was: a part that is imported later would be another package's.

    Raises:
        BaseException: whatever the import raises.
    """
    path = str(sys.modules[target.__module__].__file__)
    before = dict(sys.modules)
    _forget_package(target.__module__)
    try:
        return resolve_symbol(import_file(path), symbol)
    except BaseException:
        sys.modules.update(before)
        raise


def forget_package_of_file(path: str) -> None:
    """Forget what a file's import has imported of its package."""
    _forget_package(find_module_name(Path(path))[1])


def _forget_package(name: str) -> None:
    package = name.partition(".")[0]
    for known in [m for m in sys.modules if m.partition(".")[0] == package]:
        del sys.modules[known]


def find_module_name(path: Path) -> tuple[Path, str]:
    """The folder to import from, and the dotted name that the file has there: folders with __init__.py are packages."""
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists() and folder.parent != folder:
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def import_file(path: str) -> ModuleType:
    """Import a file under its name inside its package, or, for a file outside any, as a module of its own.

    Raises:
        BaseException: whatever the import raises.
    """
    file = Path(path)
    root, name = find_module_name(file)
    sys.path.insert(0, str(root))
    if "." in name or file.name == "__init__.py":
        return importlib.import_module(name)
    if name in sys.modules or name in sys.stdlib_module_names or not name.isidentifier():
        name = f"{LINTED_PREFIX}{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CodedError(ReasonCode.NOT_OF_KIND, name=file.name, kind="source")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def resolve_symbol(module: ModuleType, symbol: str) -> object:
    """The object of a qualified name; NotDefinedError where the module, once imported, has no such name.

    Of a function within a function, that one: it returns the other.
    """
    found: object = module
    for part in symbol.split("."):
        if isinstance(found, FunctionType) and not hasattr(found, part):
            break
        try:
            found = getattr(found, part)
        except AttributeError:
            raise NotDefinedError(symbol) from None
    return found
