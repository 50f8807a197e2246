"""Filters on hosts."""

from __future__ import annotations

import pytest

from translator.service.tools.domains import Domains, plain


@pytest.mark.parametrize(
    ("host", "domain", "passes"),
    [
        ("a.com", "a.com", True),
        ("x.a.com", "a.com", True),
        ("nota.com", "a.com", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.1", False),
        ("[::ffff:1.0.0.1]", "0.0.1", False),
    ],
)
def test_a_domain_stands_for_all_below_it(host: str, domain: str, passes: bool) -> None:
    """But an address has none below it."""
    url = f"https://{host}/x"
    assert Domains(allowed=plain([domain])).take(url) is passes
    assert Domains(blocked=plain([domain])).take(url) is not passes


@pytest.mark.parametrize("text", ["", "*.", "exa mple"])
def test_what_is_no_domain_stands_for_no_host(text: str) -> None:
    assert not Domains(allowed=plain([text])).take("https://a.com/")
    assert Domains(blocked=plain([text])).take("https://a.com/")


def test_a_model_may_leave_its_domains_blank() -> None:
    assert Domains().narrowed([" ", ""]) == Domains()
    assert Domains(allowed=("a.com",)).narrowed(["b.com"]).take("https://a.com/") is False
