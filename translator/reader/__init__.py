"""The response direction, first half: an upstream's answer as deltas.

    bytes ──► sse.Decoder ──► payloads ──► from_chat.ChatReader ──► deltas, then a verdict

Begin with `from_chat`. `fast_chunks` reads the usual chunks by one typed decode; `text_channel`,
`call_assembler` and `native_calls` tolerate what upstreams do to text and calls;
`end_of_answer` says how an answer ended. `upstream_errors`, `error_bodies`, `error_words` and
`rejected_fields` read errors.
"""
