"""The response direction, second half: deltas as Responses events.

    deltas ──► stream.ResponseStream ──► events ──► sse.encode ──► frames

Begin with `stream`, the state machine; `item_queue` decides when an item opens and closes.
`open_items` and `open_calls` yield the events of an item, `segments` are the queue behind the open
one.
"""
