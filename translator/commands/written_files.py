"""The client's own files: `--write` writes them, `--undo` takes that back.

A changed file leaves a backup beside it (`config.toml.bak`, then `.bak2`, …). A file that would not
change is not written, so a second run changes nothing and leaves no backup.

Before the first file is written, the undo record is: whatever interrupts a run can be undone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .common import UsageError

if TYPE_CHECKING:
    from translator.setup.undo import Entry, Kind, Record, Undone


def texts_in(folder: Path, *patterns: str) -> dict[str, str]:
    """The text of each file in a folder that matches a pattern; raises UsageError."""
    paths = (path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {path.name: text_of(path) for path in paths}


def text_of(path: Path) -> str:
    """The text of a file with its line ends unchanged; raises UsageError."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None


class WrittenFiles:
    """The files of one client in a folder, with the record of what was written.

    `kind_of` says what a file of that name holds.
    """

    def __init__(self, folder: Path, client: str, kind_of: Callable[[str], Kind]) -> None:
        self._folder = folder
        self._client = client
        self._record = folder / f".translator-{client}-undo.json"
        self._kind_of = kind_of

    # --- writing ---------------------------------------------------------------------------------

    def write(self, texts: Mapping[str, str]) -> None:
        """Write the files that differ, and print a line for each; raises UsageError."""
        before = {name: self._text(name) for name in texts}
        changed = [name for name in texts if texts[name] != before[name]]
        record = self._begun({name: (before[name], texts[name]) for name in changed})
        for name, text in texts.items():
            path = self._folder / name
            if name not in changed:
                print(f"unchanged  {path}")
                continue
            with _writing(path):
                print(_written(path, text))
        if changed:
            from translator.setup.undo import finished

            for name in changed:
                finished(record.files[name])
            self._save(record)

    def _begun(self, changes: Mapping[str, tuple[str | None, str]]) -> Record:
        """The record with these changes, saved before any of them is made."""
        from translator.setup.undo import recorded

        record = self._read()
        if not changes:
            return record
        if not record.files:
            record.folders = sum(not one.exists() for one in (self._folder, *self._folder.parents))
        for name, (old, new) in changes.items():
            backup = None if old is None else _free_backup(self._folder / name).name
            entry = record.files.pop(name, None)
            record.files[name] = recorded(self._kind_of(name), entry, old, new, backup)
        self._save(record)
        return record

    def _text(self, name: str) -> str | None:
        path = self._folder / name
        return text_of(path) if path.exists() else None

    def _read(self) -> Record:
        import msgspec

        from translator.setup.undo import Record, read_record

        try:
            return read_record(self._record.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Record()
        except OSError as error:
            raise UsageError(f"{self._record} cannot be read: {error.strerror}") from None
        except (ValueError, msgspec.MsgspecError) as error:
            raise UsageError(
                f"{self._record} is damaged ({error}): delete it, and go back by hand to the "
                "backups (*.bak) if need be"
            ) from None

    def _save(self, record: Record) -> None:
        import msgspec

        from translator.setup.undo import MAX_RECORD_BYTES

        data = msgspec.json.encode(record)
        if len(data) > MAX_RECORD_BYTES:
            raise UsageError(
                f"--undo can remember {MAX_RECORD_BYTES} bytes of changes in {self._folder}, and "
                f"these are {len(data)}: use --undo first, or write fewer models"
            )
        with _writing(self._record):
            self._record.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._record, data, mode=0o600)

    def way_back(self, where: str) -> str:
        """The step that takes back what was written; `where` is the option for the place."""
        return f"take it back:       translator {self._client} --undo {where}"

    # --- undoing ---------------------------------------------------------------------------------

    def undo(
        self,
        only: str | None = None,
        *,
        needed: Mapping[tuple[str, ...], str] | None = None,
        referred: Callable[[], str | None] = lambda: None,
    ) -> int:
        """Take back what was written, and print a line for each file; returns the exit code.

        `only` is the file, by default all that were written. `needed` is that of
        `setup.undo.undone`. `referred` is called when all others are done, and returns the name of
        a file that must stay, because one of those refers to it. Raises UsageError.
        """
        from translator.setup.undo import CannotUndo, undone

        record = self._read()
        names = [name for name in record.files if only in (None, name)]
        if not names:
            print(f"nothing to undo: --write has written nothing in {self._folder}")
            return 0
        left = False
        names.reverse()  # files that refer to others first
        names.sort(key=lambda name: self._kind_of(name) == "catalog")
        for name in names:
            path, entry, text = self._folder / name, record.files[name], self._text(name)
            if self._kind_of(name) == "catalog" and referred() == name:
                print(f"kept       {path}: your own configuration refers to it")
                del record.files[name]
                continue
            try:
                done = undone(entry, text, self._backup, needed=needed)
            except CannotUndo as error:
                print(f"left       {path}: {error}; mend it, or take out: {entry.summary()}")
                left = True
                continue
            with _writing(path):
                print(self._apply(path, text, done))
            for key in done.kept:
                print(f"           {'.'.join(key)} stays: it is yours by now")
            for key in done.lost:
                print(f"           {'.'.join(key)} is gone: its earlier value was in a backup")
            left |= bool(done.lost)
            self._remove_backups(entry, done)
            del record.files[name]
        self._close(record)
        return int(left)

    def _backup(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _apply(self, path: Path, text: str | None, done: Undone) -> str:
        """Write what a file becomes; returns the line to print."""
        if text is None:
            return f"gone       {path} (it is not there any more)"
        if done.text is None:
            path.resolve().unlink()
            return f"removed    {path}"
        if done.text == text:
            return f"unchanged  {path} (nothing in it is from --write any more)"
        if done.exact:
            _replace(path.resolve(), done.text.encode())
            return f"restored   {path}"
        backup = _free_backup(path)
        shutil.copy2(path.resolve(), backup)
        _replace(path.resolve(), done.text.encode())
        return f"changed    {path} (what you changed since stays; before: {backup.name})"

    def _remove_backups(self, entry: Entry, done: Undone) -> None:
        """Remove the backups that hold only what is there again, or what was written."""
        if not done.exact:
            return
        for backup in entry.backups:
            path = self._folder / backup.name
            with contextlib.suppress(OSError):
                if hashlib.sha256(path.read_bytes()).hexdigest() == backup.hash:
                    path.unlink()

    def _close(self, record: Record) -> None:
        """Remove the record when nothing is left in it, and the folders that were made for it."""
        if record.files:
            self._save(record)
            return
        with _writing(self._record):
            self._record.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # of a folder that is not empty
            for folder in (self._folder, *self._folder.parents)[: record.folders]:
                folder.rmdir()


@contextlib.contextmanager
def _writing(path: Path) -> Generator[None]:
    """Turn an OSError into a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _written(path: Path, text: str) -> str:
    """Write one file whose text differs; returns the line to print."""
    path.parent.mkdir(parents=True, exist_ok=True)
    real = path.resolve()  # keep a symbolic link
    if not real.exists():
        _replace(real, text.encode())
        return f"wrote      {path}"
    backup = _free_backup(path)
    shutil.copy2(real, backup)
    _replace(real, text.encode())
    return f"changed    {path} (before: {backup.name})"


def _free_backup(path: Path) -> Path:
    number = 1
    while (backup := Path(f"{path}.bak{'' if number == 1 else number}")).exists():
        number += 1
    return backup


def _replace(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace a file atomically, so that no client reads half of it."""
    if mode is None:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
