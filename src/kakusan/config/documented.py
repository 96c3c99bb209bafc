"""Words for help texts, from where they are written: the docstrings of a class and those below its fields."""

import ast
import inspect
from itertools import pairwise
from textwrap import dedent


def summary(kind: type) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())


def docstrings(kind: type) -> dict[str, str]:
    """The docstrings below the fields of a class and of those it inherits from, by field name."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        try:
            tree = ast.parse(dedent(inspect.getsource(each)))
        except (OSError, TypeError, SyntaxError):  # without a source, such as a class typed into a console
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, below in pairwise(body):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as words)),
                ):
                    found[name] = " ".join(words.split())
    return found
