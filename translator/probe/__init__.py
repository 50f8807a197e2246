"""The capability probe: finds out which dialect an upstream speaks by sending it small requests.

    probe = model list, { check }, ranking of the dialects, replay of one agent turn ;
    check = { request, outcome }, findings ;

Open `plan` first: it lists the checks in order. A check (`checks`, `tool_checks`) is a generator
that yields requests (`payloads`) and is sent their outcomes (`replies`); it does no I/O. It records
findings (`findings`) in the probe state (`state`). `client` sends the requests, `verdict` ranks the
dialects by the findings, `run` drives all of it, and `report` prints the result.

| word | means |
|---|---|
| outcome | accepted with a reply, rejected with the upstream's words, or inconclusive |
| finding | one observed fact, with its evidence; a dialect agrees with it or not |
| feature | one of several optional parts of a request that is tested by whether it is accepted |
| mark | a key or word in an answer by which a server is recognised |
| fit | a dialect, with the findings that contradict it and the facts that correct it |
"""
