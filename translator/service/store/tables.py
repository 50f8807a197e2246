"""The tables of the store.

    thread ◄── response ──► parent      a response links to the one that it continues
                  │ ▲
                  │ └── body            the response object, without its output
                  │ └── event         the log of a response in the background
                  ▼
               response_item ──► item   its own input and output, in order; an item stands once
                                   ▲
    conversation ◄── conversation_item

Nothing is copied from turn to turn: the context of a response is read along its parents. All
branches that begin with one response are one thread, which expires as a whole, after its last
turn; a response whose parent is implied begins a thread of its own. `n` are keys that never leave
the store; ids are text, and unique for each owner.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

PREFIX = "resp_"

METADATA = MetaData()

_KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite's own row number is an INTEGER

META = Table(
    f"{PREFIX}meta",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""The version of the bodies' format (`format`), and the salt of owners (`salt`), in hexadecimal."""

KEYS = Table(
    f"{PREFIX}keys",
    METADATA,
    Column("one", Integer, primary_key=True),
    Column("next", BigInteger, nullable=False),
)
"""The next free key, on SQLite; PostgreSQL has the sequence `resp_numbers`."""

THREADS = Table(
    f"{PREFIX}threads",
    METADATA,
    Column("n", _KEY, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("expires_at", Float(53), nullable=False),  # by the database's time, in seconds
    Index(f"{PREFIX}threads_expires_at", "expires_at"),
    Index(f"{PREFIX}threads_owner", "owner"),
)

RESPONSES = Table(
    f"{PREFIX}responses",
    METADATA,
    Column("n", _KEY, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("thread", BigInteger, nullable=False),
    Column("parent", BigInteger),
    Column("depth", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("deleted_at", Float(53)),
    Column("bytes", BigInteger, nullable=False),
    Column("conversation", BigInteger),
    Column("conversation_upto", Integer),  # the items before this place precede the response
    Column("digest", Text),  # of its whole context with its output, in hexadecimal
    Column("implied", SmallInteger, nullable=False, server_default="0"),
    Column("cut", SmallInteger, nullable=False, server_default="0"),  # 1: it has a compaction
    Column("gone", SmallInteger, nullable=False, server_default="0"),
    Column("background", SmallInteger, nullable=False, server_default="0"),
    Column("temporary", SmallInteger, nullable=False, server_default="0"),  # 1: only to be polled
    Column("streamed", SmallInteger, nullable=False, server_default="0"),
    Column("ended_at", Float(53)),
    Column("lease_token", Text),  # of the process that runs it; fences its writes
    Column("lease_until", Float(53)),
    Column("cancel_asked", SmallInteger, nullable=False, server_default="0"),
    Column("last_seq", Integer),  # the number of its last event in the log
    UniqueConstraint("owner", "id", name=f"{PREFIX}responses_id"),
    Index(f"{PREFIX}responses_thread", "thread"),
    Index(f"{PREFIX}responses_parent", "parent"),
    Index(f"{PREFIX}responses_digest", "owner", "digest"),
    Index(
        f"{PREFIX}responses_unneeded",
        "n",
        sqlite_where=text("gone = 2"),
        postgresql_where=text("gone = 2"),
    ),
    Index(
        f"{PREFIX}responses_conversation",
        "conversation",
        "conversation_upto",
        sqlite_where=text("conversation IS NOT NULL"),
        postgresql_where=text("conversation IS NOT NULL"),
    ),
    Index(
        f"{PREFIX}responses_lease_until",
        "lease_until",
        sqlite_where=text("status IN ('queued', 'in_progress')"),
        postgresql_where=text("status IN ('queued', 'in_progress')"),
    ),
)

"""`parent` is what precedes in the context. `implied`: the request named none, but began with the
context and output of the parent; no client sees a difference. `cut`: what precedes a compaction
is not read any more. Of a deleted response, `gone` is 1: its items are gone, though others may go
on from it; 2: nothing goes on from it, and the sweep deletes its rows."""

BODIES = Table(
    f"{PREFIX}bodies",
    METADATA,
    Column("response", _KEY, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)
"""In a table of its own: the walk along a chain does not read it."""

ITEMS = Table(
    f"{PREFIX}items",
    METADATA,
    Column("n", _KEY, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # JSON, as the client was shown it
    Column("sealed", LargeBinary),  # the same with its sealed reasoning; NULL: it is the same
    Column("bytes", BigInteger, nullable=False),
    UniqueConstraint("owner", "id", name=f"{PREFIX}items_id"),
)

RESPONSE_ITEMS = Table(
    f"{PREFIX}response_items",
    METADATA,
    Column("response", BigInteger, primary_key=True, autoincrement=False),
    Column("pos", Integer, primary_key=True, autoincrement=False),
    Column("side", SmallInteger, nullable=False),  # 0: input, 1: output, 2: kept by a compaction
    Column("item", BigInteger, nullable=False),
    Index(f"{PREFIX}response_items_item", "item"),
)

OWNERS = Table(
    f"{PREFIX}owners",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("bytes", BigInteger, nullable=False),
)
"""The bytes of each owner: of items, bodies, metadata of conversations, and of the events of
responses that have ended; the sum of its rows. Processes that write at once use different rows, so
that none waits for the commit of another."""

CONVERSATIONS = Table(
    f"{PREFIX}conversations",
    METADATA,
    Column("n", _KEY, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("touched_at", Float(53), nullable=False),  # the latest change, from which it is kept
    Column("metadata", LargeBinary, nullable=False),  # JSON
    Column("next_pos", Integer, nullable=False),
    Column("lock_token", Text),  # of the request that will append to it
    Column("lock_until", Float(53)),
    Column("bytes", BigInteger, nullable=False),
    Column("deleted_at", Float(53)),  # its items may still be the context of responses
    UniqueConstraint("owner", "id", name=f"{PREFIX}conversations_id"),
    Index(f"{PREFIX}conversations_touched_at", "touched_at"),
    Index(
        f"{PREFIX}conversations_deleted_at",
        "deleted_at",
        sqlite_where=text("deleted_at IS NOT NULL"),
        postgresql_where=text("deleted_at IS NOT NULL"),
    ),
)

CONVERSATION_ITEMS = Table(
    f"{PREFIX}conversation_items",
    METADATA,
    Column("conversation", BigInteger, primary_key=True, autoincrement=False),
    Column("pos", Integer, primary_key=True, autoincrement=False),
    Column("item", BigInteger, nullable=False),
    Column("removed", Integer),  # the place at which it was removed; NULL: it is there
    Index(
        f"{PREFIX}conversation_items_once",
        "conversation",
        "item",
        unique=True,
        sqlite_where=text("removed IS NULL"),
        postgresql_where=text("removed IS NULL"),
    ),
    Index(f"{PREFIX}conversation_items_item", "item"),
    Index(
        f"{PREFIX}conversation_items_removed",
        "conversation",
        sqlite_where=text("removed IS NOT NULL"),
        postgresql_where=text("removed IS NOT NULL"),
    ),
)
"""Places are given to items and to removals, in order of commit: a response at place `n` saw what
stood before `n`, but for what was removed before `n`."""

EVENTS = Table(
    f"{PREFIX}events",
    METADATA,
    Column("response", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", Integer, primary_key=True, autoincrement=False),
    Column("last_seq", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the frames of these events, as they are sent
)
"""The log of a streamed response in the background."""
