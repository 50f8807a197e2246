"""The launcher: a service for one client program, from its start to its end.

    service starts ──► upstream and models are asked for ──► client in the foreground ──► both end

Begin with `session`, which runs these steps; `service_process` is the service as a process,
`clients` what each client is started with, `foreground` the client's process and its signals.
"""
