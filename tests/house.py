"""The checker of the house: which module may import which, read from the imports by AST.

Nothing is imported to be checked, and imports inside functions and under TYPE_CHECKING count. A unit is a
room or a file directly in a package; its floor is in FLOORS, and what has no floor has no place.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FLOORS", "HEAVY", "check_house"]

FLOORS: Mapping[str, int] = {
    "pfgdata.errors": 0,
    "pfgdata.lazy": 0,
    "pfgdata.urls": 0,
    "pfgdata.records": 1,
    "pfgdata.conventions": 1,
    "pfgdata.files": 1,
    "pfgdata.pages": 1,
    "pfgdata.paths": 1,
    "pfgdata.interrupts": 1,
    "pfgdata.hub": 2,
    "pfgdata.vocabulary": 2,
    "pfgdata.images": 2,
    "pfgdata.inference": 2,
    "pfgdata.corpus": 3,
    "pfgdata.store": 3,
    "pfgdata.taggers": 3,
    "pfgdata.extractors": 3,
    "pfgdata.vaes": 3,
    "pfgdata.ingest": 4,
    "pfgdata.derive": 4,
    "pfgdata.features": 5,
    "pfgdata.latents": 5,  # and other encoders beside it: they use the pass of derive
    "pfgdata.similarity": 4,
    "pfgdata.captions": 4,
    "pfgdata.exchange": 4,
    "pfgdata.query": 5,  # asks similarity for distances
    "pfgdata.screen": 5,
    "pfgdata.flags": 5,
    "pfgdata": 6,  # the api: a package's __init__
    "pfgdata.cluster": 6,  # runs what ingest, latents and features make
    "pfgdata.report": 6,  # asks query for its session
    "pfgdata.web": 6,
    "pfgdata.cli": 7,  # __main__ counts as the cli
    "pfgtrain.condition": 1,
    "pfgtrain.config": 1,
    "pfgtrain.adapter": 2,
    "pfgtrain.objective": 2,
    "pfgtrain.checkpoint": 2,
    "pfgtrain.base": 3,
    "pfgtrain.lora": 2,  # a base may be a run whose LoRA is merged in
    "pfgtrain.optim": 3,
    "pfgtrain.batches": 3,
    "pfgtrain.generate": 4,
    "pfgtrain.fit": 5,
    "pfgtrain.evaluate": 5,
    "pfgtrain.export": 5,
    "pfgtrain": 6,
    "pfgtrain.web": 6,
    "pfgtrain.cli": 7,
}
PACKAGES = ("pfgdata", "pfgtrain", "pipelines")  # each may use those before it; pipelines has no floors
HEAVY = frozenset({"torch", "diffusers", "transformers", "onnx", "onnxruntime", "ray", "obstore"})
MAX_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6  # self and cls not counted; *args and **kwargs one each


@dataclass(frozen=True)
class Module:
    """One file: its dotted name (a folder's __init__ has the folder's), and what it imports."""

    name: str
    path: Path
    tree: ast.Module
    is_folder: bool
    lines: int

    @property
    def package(self) -> str:
        """pfgdata, pfgtrain or pipelines."""
        return self.name.split(".")[0]

    @property
    def unit(self) -> str:
        """The room or file it belongs to; the package itself for its __init__."""
        parts = self.name.split(".")
        unit = ".".join(parts[:2])
        return f"{parts[0]}.cli" if parts[1:] == ["__main__"] else unit


@dataclass(frozen=True)
class Arrow:
    """`source` imports `target` (a module's name), and from it `name` where the import says one."""

    source: Module
    target: str
    line: int
    name: str | None = None
    at_top: bool = True  # runs when the module is imported


@dataclass
class House:
    """All modules below one folder, by name."""

    modules: dict[str, Module] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> House:
        """Parse every .py file of the three packages under `root`."""
        house = cls()
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                is_folder = parts[-1] == "__init__"
                text = path.read_text()
                name = ".".join(parts[:-1] if is_folder else parts)
                tree = ast.parse(text, str(path))
                house.modules[name] = Module(name, path, tree, is_folder, len(text.splitlines()))
        return house

    def arrows(self, module: Module) -> Iterator[Arrow]:
        """Every import in the file."""
        lazy_places = _not_at_import(module.tree)
        for node in ast.walk(module.tree):
            at_top = node not in lazy_places
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Arrow(module, alias.name, node.lineno, at_top=at_top)
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(module, node)
                for alias in node.names:
                    deeper = f"{base}.{alias.name}"
                    if deeper in self.modules and not self.offers(base, alias.name):
                        yield Arrow(module, deeper, node.lineno, at_top=at_top)
                    else:
                        yield Arrow(module, base, node.lineno, alias.name, at_top)

    def offers(self, module: str, name: str) -> bool:
        """Whether `name` stands in the __all__ of `module`."""
        known = self.modules.get(module)
        return known is not None and name in (public_names(known.tree) or ())


def check_house(root: Path) -> list[str]:
    """What is wrong with the house under `root`, a line each; empty when it stands."""
    house = House.read(root)
    problems: list[str] = []
    for module in house.modules.values():
        problems += _check_place(module)
        problems += _check_door(house, module)
        problems += _check_functions(module)
        for arrow in house.arrows(module):
            if arrow.target.split(".")[0] in PACKAGES:
                if problem := _check_arrow(house, arrow):
                    problems.append(f"{module.path.relative_to(root)}:{arrow.line}: {problem}")
            elif _is_heavy(arrow):
                problems.append(
                    f"{module.path.relative_to(root)}:{arrow.line}: imports {arrow.target} at the top"
                )
    return list(dict.fromkeys([*problems, *_circles(house)]))


def public_names(tree: ast.Module) -> list[str] | None:
    """The literal __all__, if there is one."""
    value = _assigned(tree, "__all__")
    return None if value is None else list(ast.literal_eval(value))


def _check_place(module: Module) -> Iterator[str]:
    if module.lines > MAX_LINES:
        yield f"{module.name}: {module.lines} lines, more than {MAX_LINES}; make it a room"
    if module.package != "pipelines" and module.unit not in FLOORS:
        yield f"{module.name}: has no place in the house (FLOORS in tests/house.py, ARCHITECTURE.md)"


def _check_functions(module: Module) -> Iterator[str]:
    if module.unit.endswith(".cli"):  # a command's parameters are its flags
        return
    for name, node in _functions(module.tree, module.name):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield f"{name}: {lines} lines, more than {MAX_FUNCTION_LINES}; make it two functions"
        if (count := _parameters(node.args)) > MAX_PARAMETERS:
            yield f"{name}: {count} parameters, more than {MAX_PARAMETERS}; what belongs together is a value"


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function below `tree`, with its dotted name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{prefix}.{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from _functions(node, name)
        else:
            yield from _functions(node, prefix)


def _parameters(args: ast.arguments) -> int:
    named = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs) if a.arg not in ("self", "cls")]
    return len(named) + (args.vararg is not None) + (args.kwarg is not None)


def _check_door(house: House, module: Module) -> Iterator[str]:
    """A room's __init__ has __all__, and what it imports for mypy alone it imports when asked."""
    if not module.is_folder or module.package == "pipelines" or module.unit.endswith(".cli"):
        return
    public, lazy = public_names(module.tree), _type_checking_imports(module.tree)
    if public is None:
        yield f"{module.name}: a door without __all__"
        return
    bound = _bound_names(module.tree)
    for name in sorted(lazy - set(public)):
        yield f"{module.name}: TYPE_CHECKING imports {name}, __all__ lacks it"
    if lazy and "__getattr__" not in bound:
        yield f"{module.name}: what TYPE_CHECKING imports is not there at run time; see pfgdata.lazy"
    for name in sorted(set(public) - bound):
        yield f"{module.name}: __all__ names {name}, which is not there"
    for name in sorted(
        set(public) & {n.rpartition(".")[2] for n in house.modules if _inside(n, module.name)}
    ):
        yield f"{module.name}: {name} at the door is hidden by the file of that name"


def _check_arrow(house: House, arrow: Arrow) -> str | None:
    source, target = arrow.source, house.modules.get(arrow.target)
    if target is None:
        return f"imports {arrow.target}, which is not there"
    if PACKAGES.index(target.package) > PACKAGES.index(source.package):
        return f"{source.package} imports {target.name}"
    if target.unit == source.unit:
        return None  # inside a room; circles are looked for apart
    if target.unit.endswith(".cli"):
        return f"imports {target.name}: nobody imports a cli"
    if target.name != target.unit:
        return f"imports {target.name}, past the door of {target.unit}"
    public = public_names(target.tree)
    if arrow.name and arrow.name != "*" and public is not None and arrow.name not in public:
        return f"imports {arrow.name}, which is not at the door of {target.name}"
    if target.package != source.package or source.package == "pipelines":
        return None
    floor, below = FLOORS.get(source.unit), FLOORS.get(target.unit)
    if floor is not None and below is not None and below >= floor:
        way = "sideways" if below == floor else "upward"
        return f"imports {target.name} {way} (floor {floor} to {below})"
    return None


def _circles(house: House) -> Iterator[str]:
    """Files that import each other in a circle; their own door counts as a file of the room."""
    graph = {
        name: sorted({a.target for a in house.arrows(module) if a.target in house.modules} - {name})
        for name, module in house.modules.items()
    }
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> Iterator[str]:
        if name in path:
            yield f"a circle of imports: {' -> '.join([*path[path.index(name) :], name])}"
        elif name not in done:
            for target in graph[name]:
                yield from visit(target, [*path, name])
            done.add(name)

    for name in graph:
        yield from visit(name, [])


def _is_heavy(arrow: Arrow) -> bool:
    return arrow.source.package == "pfgdata" and arrow.at_top and arrow.target.split(".")[0] in HEAVY


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    base = parts[: len(parts) - node.level + (1 if module.is_folder else 0)]
    return ".".join([*base, *([node.module] if node.module else [])])


def _not_at_import(tree: ast.Module) -> set[ast.AST]:
    """Nodes that do not run when the module is imported: bodies of functions and of TYPE_CHECKING."""
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or _is_type_checking(node):
            parts = node.body if isinstance(node, (ast.If, ast.FunctionDef, ast.AsyncFunctionDef)) else []
            lazy.update(inner for part in parts for inner in ast.walk(part))
    return lazy


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _type_checking_imports(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if _is_type_checking(node)
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }


def _bound_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            return node.value
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return node.value
    return None


def _inside(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}.") and name.count(".") == folder.count(".") + 1
