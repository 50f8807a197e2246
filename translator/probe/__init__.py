"""The capability probe: finds out which dialect an upstream speaks by sending it small requests.

    probe = model list, { check }, { ranking of the dialects, agent turn } ;
    check = { request, outcome }, findings ;

Open `plan` first: it lists the checks in order. A check (`checks`, `tool_checks`) is a generator
that yields requests (`payloads`) and is sent their outcomes (`replies`); it does no I/O. It records
findings (`findings`) in the probe state (`state`). `verdict` ranks the dialects by them, and
`verification` sends an agent turn as the best one writes it (`agent_turn`), until one is accepted.
`client` sends the requests, `run` drives all of it, and `report` prints the result.

| word | means |
|---|---|
| outcome | accepted with a reply, rejected with the upstream's words, or inconclusive |
| finding | one observed fact, with its evidence; a dialect agrees with it or not |
| feature | one of several optional parts of a request that is tested by whether it is accepted |
| mark | a key, word or header by which a server is recognised; some servers name themselves |
| fit | a dialect, with the findings that contradict it and the facts that correct it |
| trial | a fit whose settings have written an agent turn, and what became of it |
"""
