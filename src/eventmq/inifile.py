"""An INI file as entries that know their line, which `configparser` forgets.

Knows the form only: what sections and names mean is for `settings.py` to say.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import NamedTuple

from eventmq.errors import SettingsError


class Entry(NamedTuple):
    """One `name = text`, its name in lower case. A section's own line is an entry without name and text."""

    section: str
    name: str
    text: str
    line: int


def read(file: Path) -> list[Entry]:
    """The entries of a file, section by section.

    Raises:
        SettingsError: It cannot be read, or is no INI file; the message names the line.
    """
    text = _text(file)
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text, source=str(file))
    except configparser.Error as error:
        raise SettingsError(_sentence(file, error)) from None
    lines = _lines(text)
    entries = []
    for section in parser.sections():
        entries.append(Entry(section, "", "", lines[section, ""]))
        entries += [Entry(section, name, value, lines[section, name]) for name, value in parser[section].items()]
    return entries


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the settings file {file} is not UTF-8 text") from None


def _sentence(file: Path, error: configparser.Error) -> str:
    """configparser's complaint in one line."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"{file}:{error.lineno}: a setting stands before the first [section]"
    if isinstance(error, configparser.ParsingError):
        return f"{file}:{error.errors[0][0]}: neither [section] nor name = value"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"{file}:{error.lineno}: {error.option} stands twice in [{error.section}]"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"{file}:{error.lineno}: [{error.section}] stands twice"
    return f"{file}: {error.message}"


def _lines(text: str) -> dict[tuple[str, str], int]:
    """The first line of each section and each name. Continuation lines are indented and so never match."""
    lines: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := re.match(r"\[([^\]]+)\]", line.strip()):
            section = header[1]
            lines.setdefault((section, ""), number)
        elif entry := re.match(r"\s*([^\s=:#;][^=:]*?)\s*[=:]", line):
            lines.setdefault((section, entry[1].lower()), number)
    return lines
