"""The table in `fixtures/README.md`: which case stands for which scenario of the plan.

`python -m tests.fixture_table` writes it anew; a test compares it with the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.fixture_cases import ROOT, Case, all_cases

README = ROOT / "README.md"
BEGIN = "<!-- table: python -m tests.fixture_table -->\n"

SECTIONS = {
    "Plain streams of each upstream": range(1, 47),
    "Fireworks": range(47, 64),
    "Calls": range(64, 95),
    "Reasoning": range(95, 113),
    "Usage": range(113, 121),
    "Ends": range(121, 140),
    "Errors": range(140, 164),
    "Framing": range(164, 185),
    "Requests": range(185, 212),
    "Reasoning that returns": range(212, 224),
    "Bodies without a stream": range(224, 232),
    "Robustness": range(232, 238),
}

FRAMINGS = {
    164: "line ends CRLF",
    165: "line ends CR",
    166: "no space behind data",
    167: "a space before data",
    168: "a byte order mark",
    169: "comments everywhere",
    170: "event, id and retry lines",
    171: "two payloads in a block",
    172: "one payload over many lines",
    173: "blank data",
    177: "no blank line at the end",
    178: "no [DONE]",
    179: "[DONE] twice, and more behind it",
    180: "no space before [DONE]",
}

TESTS = {
    62: "service/test_refusals::test_fireworks_without_stream_options",
    128: "service/test_stalls::test_signs_of_life_alone_are_a_504",
    183: "service/test_bodies::test_the_content_type_of_an_upstream_does_not_matter",
    211: "service/test_refusals::test_parallel_tool_calls_in_the_words_of_several",
    222: "service/test_refusals::test_reasoning_that_is_demanded_gets_a_placeholder",
    235: "service/test_bodies::test_a_hundred_answers_at_once_do_not_cross",
    237: "test_memory::test_a_piece_costs_the_same_however_much_came_before",
    **dict.fromkeys(FRAMINGS, "test_framing::test_framing"),
    95: "test_framing::test_think_tags_cut_at_every_place",
    127: "service/test_responses_route::"
    "test_an_upstream_that_falls_silent_ends_the_stream_in_a_failure",
    150: "service/test_responses_route::"
    "test_a_refused_key_is_the_operators_fault_only_when_it_is_the_operators",
    155: "test_upstream_errors::test_a_context_that_is_too_long_has_one_code",
    157: "service/test_responses_route::test_an_upstreams_refusal_keeps_its_status_and_its_advice",
    160: "service/test_errors::test_an_upstream_that_is_not_there_is_a_502",
    161: "test_framing::test_connection_breaks",
    174: "test_fixtures::test_byte_by_byte",
    175: "test_fixtures::test_outcome",
    176: "test_framing::test_cut_at_every_place",
    181: "test_framing::test_one_megabyte_in_one_event",
    182: "service/test_responses_route::test_a_compressed_answer_is_understood",
    230: "test_fixtures::test_json_body_equals_stream",
    232: "test_totality::test_any_value_in_a_chunk_may_be_wrong",
    233: "test_recorded::test_recorded_body",
    234: "test_properties::test_manners_do_not_matter",
    236: "service/test_disconnect::test_while_the_upstream_thinks",
}
"""Scenarios that are tests of many bodies, or of the service."""

NOT_YET = {
    221: "there is no store",
}
"""Scenarios without a case here, and why."""

PARTLY = {
    237: "20,000 chunks, by what each one allocates",
    126: "the HTTP status is in its `error.json`",
}
"""What a case leaves open."""


def table(cases: Iterable[Case]) -> str:
    """Every scenario with its cases or tests, or the reason why there is none."""
    by_number: dict[int, list[str]] = {}
    others: list[str] = []
    for case in cases:
        link = f"[{case.name}]({case.name})"
        for number in case.source.plan:
            by_number.setdefault(number, []).append(link)
        if not case.source.plan:
            others.append(f"- {link}: {case.source.title}")
    for number, test in TESTS.items():
        shown = f"{test}[{FRAMINGS[number]}]" if number in FRAMINGS else test
        by_number.setdefault(number, []).append(f"`{shown}`")
    assert not NOT_YET.keys() & by_number.keys(), "said to be not covered, and covered"
    return "\n".join([*_lines(by_number), "\n### Besides\n", *others, ""])


def _lines(by_number: dict[int, list[str]]) -> Iterator[str]:
    for title, numbers in SECTIONS.items():
        yield f"\n### {title}\n"
        yield "| | case or test |"
        yield "|---|---|"
        for number in numbers:
            found = by_number.get(number)
            if found is None:
                yield f"| {number} | not covered: {NOT_YET[number]} |"
            else:
                note = f" ({PARTLY[number]})" if number in PARTLY else ""
                yield f"| {number} | {', '.join(found)}{note} |"


def readme_with_table(cases: Iterable[Case]) -> str:
    """The README with the table as it must be."""
    prose, begin, _ = README.read_text(encoding="utf-8").partition(BEGIN)
    return prose + begin + table(cases)


if __name__ == "__main__":
    README.write_text(readme_with_table(all_cases().values()), encoding="utf-8")
