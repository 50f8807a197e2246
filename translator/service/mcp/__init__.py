"""Servers of the Model Context Protocol: their tools are listed and called for a client.

    servers  ──opens──►  session  ──speaks through──►  transport  ──►  a server
       └─ the list of tools, and the outcomes of calls

The protocol itself is the official SDK's (`mcp`); importing this folder imports it, which takes a
second, so it is done at the start of a service whose settings have a use for it.
"""
