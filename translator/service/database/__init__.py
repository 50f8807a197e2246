"""The database room: SQLite or PostgreSQL, for what outlives a process.

Begin with `database`: a `writer` thread with group commit, and reader threads (`readers`).
`connection` speaks to either database, with the texts of `statement`; `schema` has the tables of a
room and their migrations. A room of the service opens an instance of its own.
"""
