"""TOML that is written is read back as the same values."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests import strategies as draws
from translator.common.toml import toml_lines

VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        draws.TEXT,
    ),
    lambda inner: st.lists(inner) | st.dictionaries(draws.TEXT, inner),
)
TABLES = st.dictionaries(st.sampled_from(["a", "b_c", "d-e"]), VALUES)


@given(TABLES)
def test_a_table_is_read_back(table: dict[str, Any]) -> None:
    assert tomllib.loads("\n".join(toml_lines(table))) == table


def test_a_control_character_is_escaped() -> None:
    """TOML forbids U+007F in a string, where JSON does not."""
    assert tomllib.loads(toml_lines({"model": "a\x7f\x00"})[0]) == {"model": "a\x7f\x00"}
