"""The fields of a struct as the columns of a table, as they are declared.

A field says once, in its ``Meta``, all that a table needs of it: ``description`` and ``examples``;
``title``, what people call it, if that is not its name; and in ``extra`` its ``unit`` (as VOUnits
spells it), its ``ucd`` and its ``dtype``, where that is narrower than its type. The writers of
files, the dashboard and the example in the OpenAPI document are made of that.
"""

from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

#: ``CREATOR`` in the first header of FITS tables, which tells them from exposures.
CREATOR = "astrotriton"

#: In place of a unit: that of the exposure's pixels.
FLUX_UNIT = "flux_unit"


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A field as a column.

    Attributes
    ----------
    name, title, description
        Of the field, for programs, on a page, and at length.
    dtype
        NumPy's name of its type; ``str`` for a text, also for an id or for several texts.
    nullable
        Whether it may be unknown.
    unit
        As VOUnits spells it, or `FLUX_UNIT`; None without one.
    ucd
        What kind of quantity it is, as UCD1+ names it; None if nothing fits.
    example
        A value of it, as JSON has it.
    """

    name: str
    title: str
    description: str
    dtype: str
    nullable: bool
    unit: str | None
    ucd: str | None
    example: Any


@cache
def columns_of(kind: type[msgspec.Struct]) -> tuple[Column, ...]:
    """The fields of a struct that a table can hold, in their order: no structs and no times."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    found = (_column(field.name, field.type) for field in info.fields)
    return tuple(one for one in found if one is not None)


def nothing_known(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """None for each field of a struct that may be unknown, to be filled in."""
    return {column.name: None for column in columns_of(kind) if column.nullable}


def _column(name: str, declared: inspect.Type) -> Column | None:
    said: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    nullable = False
    while True:
        if isinstance(declared, inspect.Metadata):
            # The outermost is the field's own, and says more of it than a type that many share.
            said = (declared.extra_json_schema or {}) | said
            extra = (declared.extra or {}) | extra
            declared = declared.type
        elif isinstance(declared, inspect.UnionType):
            known = [one for one in declared.types if not isinstance(one, inspect.NoneType)]
            nullable = len(known) < len(declared.types)
            declared = known[0]
        else:
            break
    dtype = extra.get("dtype") or _dtype(declared)
    if dtype is None:
        return None
    return Column(
        name=name,
        title=said.get("title", name.replace("_", " ")),
        description=said.get("description", ""),
        dtype=dtype,
        nullable=nullable,
        unit=extra.get("unit"),
        ucd=extra.get("ucd"),
        example=said.get("examples", [None])[0],
    )


def _dtype(declared: inspect.Type) -> str | None:
    match declared:
        case inspect.FloatType():
            return "float64"
        case inspect.IntType():
            return "int32"
        case inspect.BoolType():
            return "bool"
        case inspect.StrType() | inspect.UUIDType():
            return "str"
        case inspect.VarTupleType(item_type=inspect.StrType()):
            return "str"
        case inspect.LiteralType(values=values):
            return "str" if isinstance(values[0], str) else "int32"
    return None
