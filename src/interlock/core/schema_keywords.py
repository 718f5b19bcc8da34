"""The keywords of JSON Schema that hold subschemas: 2020-12 (core §10, §11), 2019-09 and draft 7 together.

Data such as `default` and `enum` holds none. `$ref` is no keyword of this kind: it refers to one.
"""

from __future__ import annotations

from typing import Final

SINGLE: Final = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Their value is a subschema."""
LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
"""Their value is a list of subschemas; `items` in draft 7 is either."""
MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
"""Their value has a subschema under each name."""
DEFINITIONS: Final = frozenset({"$defs", "definitions"})
"""As `MAPS`, but applied only where something refers to them."""
