"""Terminal colours (SGR codes), by what they mark."""

from __future__ import annotations

from typing import Literal

Style = Literal["reasoning", "text", "tool", "lifecycle", "plain", "dim", "bold", "good"]

COLOURS: dict[Style, str] = {
    "reasoning": "35",
    "text": "32",
    "tool": "33",
    "lifecycle": "36",
    "dim": "2",
    "bold": "1",
    "good": "1;32",
}
