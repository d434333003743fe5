"""What a user's own module or DataModule returns: checked by the contracts, where it is returned."""

from collections.abc import Callable, Mapping
from functools import wraps
from types import FunctionType, NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import is_typeddict

from ..core.documents import checked
from ..core.errors import InputError, shorten
from ..core.user_code import is_the_users
from ..protocols import StepRows

Check = Callable[[Any, Any, str], None]

_WATCHED: set[tuple[type, str]] = set()  # methods that check already


def check_returned(part: object, contract: type) -> None:
    """Have whatever methods of a user's class return checked, each time they are called.

    Args:
        part: A module or a DataModule.
        contract: The Protocol whose annotations say what its methods return.
    """
    for name, expected in _returns(contract).items():
        _watch(type(part), name, _of_type(expected))
    if isinstance(part, LightningModule):
        _watch(type(part), "training_step", _is_loss)
        _watch(type(part), "configure_optimizers", _is_optimizer)
        _watch(type(part), "predict_step", _is_rows)
        _watch(type(part), "test_step", _is_rows)


def _returns(contract: type) -> dict[str, Any]:
    """The contract's methods and properties, and the type that each returns."""
    public = {name: value for name, value in vars(contract).items() if not name.startswith("_")}
    functions = {name: value.fget if isinstance(value, property) else value for name, value in public.items()}
    hints = {name: get_type_hints(value) for name, value in functions.items() if isinstance(value, FunctionType)}
    return {name: hint["return"] for name, hint in hints.items()}


def _watch(kind: type, name: str, check: Check) -> None:
    """Put a method that checks in the place of a user's own, in the class that has it."""
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    own = vars(owner)[name] if owner is not None else None
    function = own.fget if isinstance(own, property) else own
    if owner is None or not isinstance(function, FunctionType) or (owner, name) in _WATCHED:
        return
    if not is_the_users(function.__code__.co_filename):
        return
    place = f"{function.__code__.co_filename} line {function.__code__.co_firstlineno}: {owner.__name__}.{name}"

    @wraps(function)
    def checking(part: Any, *args: Any, **kwargs: Any) -> Any:
        returned = function(part, *args, **kwargs)
        check(returned, part, place)
        return returned

    _WATCHED.add((owner, name))
    setattr(owner, name, property(checking) if isinstance(own, property) else checking)


def _of_type(expected: Any) -> Check:
    """A check against an annotation; maps hold JSON values."""

    def check(returned: Any, _part: Any, place: str) -> None:
        if is_typeddict(expected) or get_origin(expected) is dict:
            checked(expected, returned, f"{place} returned what is wrong", "fix this code")
        elif not any(_fits(returned, kind) for kind in _kinds(expected)):
            raise _wrong(place, returned, " or ".join(_plain(kind) for kind in _kinds(expected)))

    return check


def _kinds(expected: Any) -> tuple[Any, ...]:
    return get_args(expected) if isinstance(expected, UnionType) else (expected,)


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(isinstance(item, get_args(kind)) for item in value)
    return isinstance(value, kind)


def _plain(kind: Any) -> str:
    return "None" if kind is NoneType else str(kind) if get_origin(kind) is list else str(kind.__name__)


def _is_loss(returned: Any, part: Any, place: str) -> None:
    # Lightning takes None for a step to skip. It then drops the entire window or the rest of it, by whether the batch
    # is the window's last and by the precision, and fails on several devices; and a forgotten `return` looks the same.
    if returned is None and part.automatic_optimization:
        raise _wrong(
            place, None, "a loss: None skips other rows too, by how the window is cut into batches; to leave rows out, "
            "return 0 * loss"
        )  # fmt: skip
    loss = returned.get("loss") if isinstance(returned, Mapping) else returned
    if part.automatic_optimization and not (isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad):
        raise _wrong(place, returned, "a loss: a tensor of one number with a gradient, or a map with it as `loss`")


def _is_optimizer(returned: Any, _part: Any, place: str) -> None:
    first = returned
    while isinstance(first, list | tuple) and first:
        first = first[0]
    optimizer = first.get("optimizer") if isinstance(first, Mapping) else first
    if not isinstance(optimizer, Optimizer):
        raise _wrong(place, returned, "an optimizer, or a map with it as `optimizer`")


def _is_rows(returned: Any, _part: Any, place: str) -> None:
    if not isinstance(returned, Mapping) or not StepRows.__required_keys__ <= returned.keys():
        raise _wrong(place, returned, "a map with `rows`, `columns` and `counts`")
    n_rows, columns = len(returned["rows"]), returned["columns"]
    if not isinstance(columns, Mapping) or any(len(values) != n_rows for values in columns.values()):
        raise _wrong(place, columns, f"columns of one value for each of the {n_rows} rows")


def _wrong(place: str, returned: Any, expected: str) -> InputError:
    return InputError(f"{place} returned {shorten(returned)}, expected {expected}; fix this code")
