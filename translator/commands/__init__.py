"""The subcommands of `translator`, one module each: `add` its parser, and `run` it.

`common` holds what all of them share, `settings` the options that select a service's settings.
"""
